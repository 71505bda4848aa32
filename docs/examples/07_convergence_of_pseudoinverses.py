"""
Convergence of pseudoinverses on my matrices
============================================

Iterations for A⁺ cost matrix products, and which is cheapest depends on the matrix. Every iterate can be looked at,
with the products that it took, and a schedule planned for a condition number says beforehand what it will reach.
"""

from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from nystrom_numerics import attention, pinv

digits = load_digits().data[:64] / 8
core = attention.exact_operator(digits, digits).rows(np.arange(64))  # a softmax core of 64 landmarks
rng = np.random.default_rng(1)
left, right = (np.linalg.qr(rng.standard_normal((64, 64)))[0] for _ in range(2))
matrices = {
    "a softmax core of digits": core,
    "κ = 1,000, singular values even in the logarithm": (left * np.geomspace(1, 1e-3, 64)) @ right,
}
methods = {
    "Newton–Schulz": (pinv.NEWTON_SCHULZ, "0.45"),
    "Chebyshev": (pinv.CHEBYSHEV, "#3b8a5a"),
    "hyperpower 5": (pinv.hyperpower_step(5), "#b8860b"),
    "paper's eq. (14)": (pinv.RAZAVI, "#9a3a00"),
}


def residual(a, z):
    """‖AZA − A‖ relative to ‖A‖, in Frobenius norms."""
    return np.linalg.norm(a @ z @ a - a) / np.linalg.norm(a)


# %%
# The residual after each step, against the products spent:

figure, panels = plt.subplots(1, 2, figsize=(10.5, 4.6), sharey=True, layout="constrained")
for panel, (name, a) in zip(panels, matrices.items(), strict=True):
    for label, (step, colour) in methods.items():
        history = [residual(a, z) for z in islice(pinv.iterates(a, step), 40)]
        panel.semilogy(step.matmuls * np.arange(40), history, ".-", color=colour, label=label)
    least = np.linalg.svd(a, compute_uv=False)[-1] / float(
        pinv.one_sup_bound(a)
    )  # relative to the start's bound
    schedule = pinv.plan(sigma_min=least, tol=1e-10)
    planned = pinv.iterate(a, schedule.steps)
    history = [residual(a, z) for z in pinv.iterates(a, schedule.steps)]
    panel.semilogy(
        (0, *schedule.products), history, "*-", color="#1a56b0", markersize=9, label="planned for κ"
    )
    panel.set(title=f"{name}\nκ = {np.linalg.cond(a):,.0f}", xlabel="matrix products", xlim=(0, 120))
    panel.grid(alpha=0.3)
panels[0].set_ylabel("relative residual")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
plt.show()

# %%
# A result carries its story, and its status says what to do:

print(planned.status.name, int(planned.matmuls), f"{float(planned.residual):.1e}")
print(pinv.razavi(matrices["a softmax core of digits"]).status.remedy)
