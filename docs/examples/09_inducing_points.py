"""
Inducing points of a Gaussian process
=====================================

A sparse Gaussian process stands or falls with its inducing points. Randomly pivoted Cholesky picks them from the data
for (m + 1) n kernel entries, and what they leave out, the trace of the residual, is the very term by which the
variational bound falls short. Here in GPyTorch, against a uniform draw.
"""

# needs: gpytorch linear_operator jaxtyping
import gpytorch
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import scale

from nystrom_numerics import kernels, landmarks

x, y = (scale(part) for part in load_diabetes(return_X_y=True))
width, noise = 3.0, 0.5
kernel = kernels.gaussian(x, gamma=1 / (2 * width**2))
inputs, targets = torch.tensor(x), torch.tensor(y)


class Sparse(gpytorch.models.ExactGP):
    """Titsias' regression with given inducing points."""

    def __init__(self, points, likelihood):
        super().__init__(inputs, targets, likelihood)
        self.mean_module = gpytorch.means.ZeroMean()
        base = gpytorch.kernels.RBFKernel()
        base.lengthscale = width
        self.covar_module = gpytorch.kernels.InducingPointKernel(base, points, likelihood)

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


def bound(indices):
    """The evidence lower bound per point at fixed hyperparameters."""
    likelihood = gpytorch.likelihoods.GaussianLikelihood()
    likelihood.noise = noise
    model = Sparse(inputs[np.asarray(indices)].clone(), likelihood).double()
    likelihood.double()
    model.train()
    with torch.no_grad():
        return float(gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)(model(inputs), targets))


# %%
# Five draws of each rule, medians with the range. The choice matters while points are few, and what pivoting brings
# then is that no draw is bad; with 40 points of 442 these data are covered either way.

sizes = (5, 10, 20, 40, 80, 160)
figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
rules = {
    "uniform": ("0.45", lambda m, seed: np.random.default_rng(seed).choice(len(x), m, replace=False)),
    "randomly pivoted Cholesky": (
        "#1a56b0",
        lambda m, seed: landmarks.accelerated_rpcholesky(kernel, m, rng=seed).indices,
    ),
}
for name, (colour, rule) in rules.items():
    found = np.array([[bound(rule(m, seed)) for seed in range(5)] for m in sizes])
    axes.plot(sizes, np.median(found, axis=1), "o-", color=colour, label=name)
    axes.fill_between(sizes, found.min(axis=1), found.max(axis=1), color=colour, alpha=0.2, linewidth=0)
axes.set(xscale="log", xlabel="inducing points", ylabel="evidence lower bound, nats a point")
axes.set_xticks(sizes, sizes, minor=False)
axes.legend(frameon=False, loc="lower right")
axes.grid(alpha=0.3)
plt.show()
