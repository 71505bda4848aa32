"""
Convergence of pseudoinverses on my matrices
============================================

Iterations for A⁺ cost matrix products, and which is cheapest depends on the matrix. Every iterate can be looked at,
with the products that it took, and a schedule planned for a condition number says beforehand what it will reach.
"""

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

# %%
# :func:`~nystrom_numerics.pinv.convergence` takes every method through the same products and keeps residual and error
# of each iterate. Beside the usual steps, a schedule planned for the matrix; its condition is relative to the bound
# that iterations start from.

# sphinx_gallery_multi_image = "single"
for name, a in matrices.items():
    least = np.linalg.svd(a, compute_uv=False)[-1] / float(pinv.one_sup_bound(a))
    schedule = pinv.plan(sigma_min=least, tol=1e-10)
    found = pinv.convergence(a, {**pinv.METHODS, "planned for κ": schedule}, products=120)
    figure = found.plot(plt.figure(figsize=(10, 4.4), layout="constrained"))
    figure.suptitle(f"{name}, κ = {np.linalg.cond(a):,.0f}")
    plt.show()
    print(f"{name}\n{found}\n")

# %%
# A result carries its story, the residual after each step too where it is asked for, and its status says what to do:

planned = pinv.iterate(a, schedule.steps, history=True)
print(planned.status.name, int(planned.matmuls), " ".join(f"{float(x):.1e}" for x in planned.history))
print(pinv.razavi(matrices["a softmax core of digits"]).status.remedy)
