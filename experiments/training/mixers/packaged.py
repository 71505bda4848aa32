"""Rivals that others keep as packages, behind one interface; where one is wrong about padding, that is mended here."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.training.mixers import Sizes
from experiments.training.mixers.heads import Projected, hidden

__all__ = ["linformer", "local", "nystrom", "performer", "reformer"]

HASHES = 2


class _Linformer(nn.Module):
    """``linformer`` knows no mask: zeros in place of padding, and projections without bias, keep it out."""

    def __init__(self, sizes: Sizes) -> None:
        from linformer import LinformerSelfAttention

        super().__init__()
        self.attention = LinformerSelfAttention(sizes.dim, sizes.length, k=2 * sizes.m, heads=sizes.heads)

    def forward(self, x: Tensor, *, mask: Tensor | None) -> Tensor:
        y: Tensor = self.attention(hidden(x, mask))
        return y


def linformer(sizes: Sizes) -> nn.Module:
    """Keys and values of all tokens, 2m sums of each with weights that are learned."""
    return _Linformer(sizes)


class _Favor(nn.Module):
    """The features of ``performer-pytorch`` with padding left out of the sums.

    The package's own ``SelfAttention`` hides the values of padding and counts its keys in the normalisation.
    """

    def __init__(self, sizes: Sizes) -> None:
        from performer_pytorch import FastAttention

        super().__init__()
        self.fast = FastAttention(sizes.dim // sizes.heads, nb_features=sizes.m)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        from performer_pytorch.performer_pytorch import linear_attention, softmax_kernel

        of_q, of_k = (
            softmax_kernel(x, projection_matrix=self.fast.projection_matrix, is_query=is_query)
            for x, is_query in ((q, True), (k, False))
        )
        if mask is not None:
            of_k = of_k * mask[:, None, :, None]
        y: Tensor = linear_attention(of_q, of_k, v)
        return y


def performer(sizes: Sizes) -> nn.Module:
    """Positive orthogonal random features (FAVOR+), m of them, drawn once."""
    return Projected(sizes, _Favor(sizes))


class _Reformer(nn.Module):
    """``reformer-pytorch`` asks for an even number of buckets: tokens are padded to it, and masked."""

    def __init__(self, sizes: Sizes) -> None:
        from reformer_pytorch import LSHSelfAttention

        super().__init__()
        self.bucket = max(1, sizes.m // HASHES)
        self.attention = LSHSelfAttention(
            sizes.dim, heads=sizes.heads, bucket_size=self.bucket, n_hashes=HASHES, causal=False
        )

    def forward(self, x: Tensor, *, mask: Tensor | None) -> Tensor:
        n = x.shape[1]
        more = -n % (2 * self.bucket)
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        padded = nn.functional.pad(hidden(x, mask), (0, 0, 0, more))
        y: Tensor = self.attention(padded, input_mask=nn.functional.pad(mask, (0, more)))
        return y[:, :n]


def reformer(sizes: Sizes) -> nn.Module:
    """Queries that are keys, two rounds of hashing, buckets of m/2 that see themselves and one before."""
    return _Reformer(sizes)


class _Local(nn.Module):
    """``local-attention`` pads the last window and sees that padding, unless it is given a mask."""

    def __init__(self, sizes: Sizes) -> None:
        from local_attention import LocalAttention

        super().__init__()
        window = max(1, round(2 * sizes.m / 3))
        self.attention = LocalAttention(window, autopad=True, use_rotary_pos_emb=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            mask = torch.ones(q.shape[0], q.shape[-2], dtype=torch.bool, device=q.device)
        y: Tensor = self.attention(q, k, v, mask=mask)
        return y


def local(sizes: Sizes) -> nn.Module:
    """A window of 2m/3 keys and its two neighbours."""
    return Projected(sizes, _Local(sizes))


class _Nystrom(nn.Module):
    """``nystrom-attention`` pads to a multiple of its landmarks, and sees that padding unless it is given a mask."""

    def __init__(self, sizes: Sizes) -> None:
        from nystrom_attention import NystromAttention

        super().__init__()
        self.attention = NystromAttention(
            sizes.dim,
            dim_head=sizes.dim // sizes.heads,
            heads=sizes.heads,
            num_landmarks=sizes.m,
            residual_conv_kernel=33,
        )

    def forward(self, x: Tensor, *, mask: Tensor | None) -> Tensor:
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        y: Tensor = self.attention(hidden(x, mask), mask=mask)
        return y


def nystrom(sizes: Sizes) -> nn.Module:
    """The paper's form as that package has it."""
    return _Nystrom(sizes)
