"""
Train a Nyströmformer
=====================

A small encoder with Nyström attention learns to read handwritten digits as a sequence of 64 pixels, on one core, in
seconds. The same network with exact attention is its own by ``m`` equal to the length.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from nystrom_numerics import nn

data = load_digits()
parts = train_test_split(data.data.astype(int), data.target, test_size=300, random_state=0)
x, x_test, y, y_test = (torch.tensor(part) for part in parts)

# %%
# Pixels are words of a vocabulary of 17; now and then the share of digits read rightly is taken on 300 others.


class Reader(torch.nn.Module):
    """The encoder, and classes read off the mean of its states."""

    def __init__(self, config):
        super().__init__()
        self.encoder, self.out = nn.Nystromformer(config), torch.nn.Linear(config.dim, 10)

    def forward(self, ids):
        return self.out(self.encoder(ids).mean(1))


def train(m):
    torch.manual_seed(0)
    sizes = {"vocabulary": 17, "dim": 32, "depth": 1, "heads": 4, "feed_forward": 64, "max_positions": 64}
    model = Reader(nn.NystromformerConfig(**sizes, landmarks=m, dropout=0.0))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    told = []
    for step in range(201):
        if step % 25 == 0:
            with torch.no_grad():
                told.append((step, float((model(x_test).argmax(-1) == y_test).float().mean())))
        batch = torch.randint(len(x), (32,))
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return told


figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
for m, colour in ((8, "#1a56b0"), (64, "0.4")):
    steps, right = zip(*train(m), strict=True)
    axes.plot(steps, [100 * r for r in right], "o-", color=colour, label=f"{m} landmarks of 64 tokens")
axes.set(xlabel="steps of 32 digits", ylabel="digits read rightly, % of 300", ylim=(0, 100))
axes.axhline(10, color="0.7", linestyle=":")
axes.legend(frameon=False, loc="lower right")
axes.grid(alpha=0.3)
plt.show()
