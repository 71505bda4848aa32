"""
Audit my matrix
===============

How good is a Nyström approximation of *this* matrix, and which bound would have said so?
:func:`~nystrom_numerics.bounds.audit` forms the truth, for matrices small enough, and holds every registered
bound against it.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from nystrom_numerics import bounds, kernels, landmarks

x = StandardScaler().fit_transform(load_digits().data)[:800]
kernel = kernels.gaussian(x, gamma=0.005)
chosen = landmarks.accelerated_rpcholesky(kernel, 100, rng=0)
found = bounds.audit(kernel, chosen)
two, frobenius, trace = found.truth
print(f"‖R‖₂ = {two:.3g}, ‖R‖_F = {frobenius:.3g}, tr R = {trace:.3g}; rank {len(found.factor.kept)}")

# %%
# Each line is a bound on the spectral, Frobenius or trace norm of the residual R; 1 is the truth. What a bound says of
# other landmarks than these, such as uniformly drawn ones, is a law for its own draws: an audit names it.

lines = [line for line in found.lines if line.tightness is not None and 0 < line.tightness < 1e6]
lines.sort(key=lambda line: line.tightness, reverse=True)
figure, axes = plt.subplots(figsize=(9, 0.28 * len(lines) + 1), layout="constrained")
for y, line in enumerate(lines):
    colour = "#1a56b0" if line.bound.side.name == "UPPER" else "#9a3a00"
    axes.plot([1, line.tightness], [y, y], color=colour, alpha=0.35)
    axes.plot(line.tightness, y, "o", color=colour, markersize=5)
axes.axvline(1, color="0.3", linewidth=1)
axes.set(
    xscale="log", xlabel="bound over truth (from below: truth over bound)", ylim=(-0.7, len(lines) - 0.3)
)
axes.set_yticks(range(len(lines)), [f"{line.name}, {line.bound.norm.value}" for line in lines], fontsize=9)
axes.grid(axis="x", alpha=0.3)
plt.show()

# %%
# The same from a terminal, of a file: ``nystrom audit points.npy --gamma 0.005 --landmarks 100 --html audit.html``.
