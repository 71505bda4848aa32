"""
Kernel ridge regression by factors of known error
=================================================

A low-rank factor of the kernel matrix is cheap, and its error is known: the residual's diagonal comes with it, and its
trace bounds what the kernel has lost. Where that is too much, the same factor preconditions conjugate gradients, which
then solve the problem itself.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from nystrom_numerics import bounds, kernels, landmarks, lowrank

data = load_digits()
x, y = StandardScaler().fit_transform(data.data), np.where(data.target < 5, -1.0, 1.0)
ridge = 1e-2 * len(x)
kernel = kernels.gaussian(x, gamma=0.005)
whole = kernel.block(slice(None), slice(None))
exact = np.linalg.solve(whole + ridge * np.eye(len(x)), y)

# %%
# For factors of growing rank: the trace of what is lost, which is known without the matrix; the error of the fitted
# values; and the steps that conjugate gradients take with it.

ranks, lost, off, steps = (10, 20, 50, 100, 200, 400), [], [], []
for rank in ranks:
    factor = lowrank.nystrom_factor(
        kernel, landmarks.accelerated_rpcholesky(kernel, rank, rng=0), diagonal=True
    )
    lost.append(float(factor.trace_residual) / len(x))
    fitted = factor.apply(factor.solve(y, ridge))
    off.append(np.linalg.norm(fitted - whole @ exact) / np.linalg.norm(whole @ exact))
    solved = lowrank.kernel_ridge(kernel, y, ridge, factor=factor, tol=1e-8)
    steps.append(int(solved.iterations))
plain = int(lowrank.kernel_ridge(kernel, y, ridge, tol=1e-8).iterations)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
left.loglog(ranks, lost, "o-", color="#1a56b0", label="tr R / tr K, known")
left.loglog(ranks, off, "s--", color="#9a3a00", label="error of the fitted values")
left.set(xlabel="rank of the factor (n = 1,797)", ylabel="relative")
left.legend(frameon=False)
right.plot(ranks, steps, "o-", color="#1a56b0", label="preconditioned by the factor")
right.axhline(plain, color="0.4", linestyle=":", label=f"without: {plain}")
right.set(xlabel="rank of the factor", ylabel="steps to a residual of 10⁻⁸", ylim=(0, None), xscale="log")
right.legend(frameon=False)
plt.show()

# %%
# A certificate says how far the last factor is in the spectral norm, from both sides, by Lanczos iteration:

certificate = bounds.certify(kernel, factor, ratio=4.0)
print(f"{certificate.lower.value:.3g} ≤ ‖R‖₂ ≤ {certificate.upper.value:.3g}")
