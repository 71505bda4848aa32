"""Attention by Torch's fused kernels, in every layout that this package's attention comes in.

With :mod:`nystrom_numerics.backend` and :mod:`nystrom_numerics.places` the only one that knows a library by name.
"""

from __future__ import annotations

from math import prod

import array_api_compat
import numpy as np

from nystrom_numerics.backend import Array, default_block, tile, with_vjp
from nystrom_numerics.places import parted

__all__ = ["attention_vjp", "attention_with_lse", "fused_attention"]

LEAST_KEYS = 256
"""Keys below which a part of them is not worth a block of a GPU."""


def fused_attention(
    q: Array, k: Array, v: Array, mask: Array | None, bias: Array | None, scale: float
) -> Array | None:
    """softmax(scale · q kᵀ + bias) v over real keys by Torch's fused kernel, or ``None`` where it has none.

    Arguments are those of ``attention.streaming.stream``.  The kernel serves one shape:
    four axes, values as wide as keys.  Other batches are brought to it by views; values of another width by zero
    columns and the scale made explicit (a width of its own falls to the kernel that holds all scores), with the
    queries and the result in blocks.  Heads that share keys are folded into the rows of
    queries where these are few, so that no key is repeated.  Masked keys and values hold finite numbers, and an item
    without any key gives zeros, where the kernel gives NaN.

    16-bit dtypes have none here, as the kernel rounds what it returns and the core would amplify that; nor has
    float64 on a GPU.  Where nothing is masked on a GPU, :func:`_on_gpu` takes the kernel's place.
    """
    if not array_api_compat.is_torch_array(q) or q.dtype.itemsize == 2:
        return None
    if q.device.type != "cpu" and q.dtype.itemsize == 8:
        return None
    import torch

    if bias is not None and torch.is_grad_enabled() and torch._C._are_functorch_transforms_active():
        return None  # under ``vmap`` the kernel is chosen without regard to a derivative of the bias, and has none
    if bias is not None and bias.shape[-2] > 1:
        return None if mask is not None else _with_bias(q, k, v, bias, scale)
    alone = None
    if mask is not None:
        alone = ~mask.any(dim=-1)
        mask = mask | alone[..., None]
        if k.shape[-2] < q.shape[-2]:  # zeros among the values, and not in the output: that is larger
            v, alone = torch.where(alone[..., None, None], torch.zeros_like(v[..., :1]), v), None
    if bias is not None:
        bias = bias[..., 0, :]
        mask = bias if mask is None else torch.where(mask, bias, torch.full_like(bias[..., :1], -torch.inf))
    shared = np.broadcast_shapes(k.shape[:-2], v.shape[:-2], () if mask is None else mask.shape[:-1])
    batch = np.broadcast_shapes(q.shape[:-2], shared)
    rows, columns = q.shape[-2], v.shape[-1]
    width = max(q.shape[-1], columns)
    group = batch[-1] if len(batch) > 1 and (len(shared) < len(batch) or shared[-1] == 1) else 1
    folded = group > 1 and rows <= k.shape[-2] and len(shared) == len(batch)
    inner = (*batch[:-1], 1) if folded else batch
    if folded:
        q = q.expand(*batch, *q.shape[-2:]).reshape(*inner, group * rows, q.shape[-1])

    def lay(x: Array) -> Array:
        x = torch.nn.functional.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x
        x = x if x.stride(-1) == 1 else x.contiguous()  # a solve comes back column-major
        x = x.expand(*inner, *x.shape[-2:])
        return x.reshape(prod(inner[:-1]), inner[-1] if inner else 1, *x.shape[-2:])

    keys, values = lay(k), lay(v)
    if mask is not None:
        mask = mask.expand(*inner, mask.shape[-1])
        mask = mask.reshape(*keys.shape[:2], 1, mask.shape[-1])
    length = q.shape[-2]

    def attend(rows: Array) -> Array:
        part = lay(rows)
        if part.is_cuda and mask is None:
            return _on_gpu(part, keys, values, scale)[..., :columns]
        return torch.nn.functional.scaled_dot_product_attention(
            part, keys, values, attn_mask=mask, scale=scale
        )[..., :columns]

    if q.shape[-1] == columns:
        out = attend(q)
    else:
        parts = parted(q, default_block(length), -2)
        if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
            out = torch.cat([attend(part) for part in parts], dim=-2)
        else:
            out = q.new_empty(*keys.shape[:2], length, columns)
            for part, own in zip(parts, parted(out, default_block(length), -2), strict=True):
                own.copy_(attend(part))
    out = out.reshape(*batch, rows, columns)
    return out if alone is None else torch.where(alone[..., None, None], torch.zeros_like(out[..., :1]), out)


def _with_bias(q: Array, k: Array, v: Array, bias: Array, scale: float) -> Array:
    """softmax(scale · q kᵀ + bias) v with a bias (..., n_q, n_k) of pairs, in which every query has a key."""
    import torch

    batch = np.broadcast_shapes(*(x.shape[:-2] for x in (q, k, v, bias)))
    width = max(q.shape[-1], v.shape[-1])

    def lay(x: Array) -> Array:
        x = x.expand(*batch, *x.shape[-2:])
        return x.reshape(prod(batch[:-1]), batch[-1] if batch else 1, *x.shape[-2:])

    def padded(x: Array) -> Array:
        return lay(torch.nn.functional.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x)

    out = torch.nn.functional.scaled_dot_product_attention(
        padded(q), padded(k), padded(v), attn_mask=lay(bias), scale=scale
    )
    return out[..., : v.shape[-1]].reshape(*batch, q.shape[-2], v.shape[-1])


def _on_gpu(q: Array, k: Array, v: Array, scale: float) -> Array:
    """softmax(scale · q kᵀ) v for arrays (b, h, ·, d), fast where one of the two lengths is small.

    The fused kernel gives a block of the GPU to every 64 queries of a head and lets it walk over all keys: with few
    queries most of the GPU idles, forward, and with few keys backward.  So keys are dealt out in parts enough to fill
    it, and the derivative is :func:`attention_vjp`.
    """
    import torch

    batch, heads, rows = q.shape[:3]
    blocks = batch * heads * -(-rows // 64)
    fill = 2 * torch.cuda.get_device_properties(q.device).multi_processor_count
    parts = max(1, min(fill // blocks, k.shape[-2] // max(LEAST_KEYS, 2 * rows)))

    def forward(q: Array, k: Array, v: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        out, lse = attention_with_lse(q, k, v, scale, parts)
        return (out,), (q, k, v, out, lse)

    def vjp(g: Array, q: Array, k: Array, v: Array, out: Array, lse: Array) -> tuple[Array, ...]:
        return attention_vjp(g, q, k, v, out, lse, scale)

    return with_vjp(forward, vjp, q, k, v)[0]


def attention_with_lse(q: Array, k: Array, v: Array, scale: float, parts: int) -> tuple[Array, Array]:
    r"""Attention (b, h, n_q, d) and :math:`\log\sum_j e^{s q_i\cdot k_j}` (b, h, n_q, 1), keys dealt out in parts.

    Each part is one more head of the kernel, and comes with its own L = log Σ; the whole is
    :math:`\sum_p e^{L_p - L}O_p`.  Keys that the number of parts does not divide make one part more.
    """
    import torch

    items, n = prod(q.shape[:2]), k.shape[-2]
    parts = min(parts, n)
    whole = n // parts * parts
    rows = q.reshape(items, 1, *q.shape[2:])

    def part(start: int, stop: int, count: int) -> tuple[Array, Array]:
        keys, values = (x[:, :, start:stop].reshape(items, count, -1, x.shape[-1]) for x in (k, v))
        return _kernel(rows.expand(-1, count, -1, -1), keys, values, scale)

    found = [part(0, whole, parts)] + ([part(whole, n, 1)] if whole < n else [])
    out, lse = (torch.cat(xs, dim=1) if len(xs) > 1 else xs[0] for xs in zip(*found, strict=True))
    total = torch.logsumexp(lse, dim=1, keepdim=True)
    if out.shape[1] > 1:
        out = (torch.exp(lse - total) * out).sum(dim=1)
    return out.reshape(*q.shape[:3], -1), total.reshape(*q.shape[:3], 1)


def _kernel(q: Array, k: Array, v: Array, scale: float) -> tuple[Array, Array]:
    """One call of the device's fused kernel: attention and log Σ, with a column axis."""
    import torch

    if q.is_cuda:
        found = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=scale)
        return found[0], found[1][..., : q.shape[-2], None]  # its rows come in multiples of 32
    found = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
    return found[0], found[1][..., None]


def attention_vjp(
    g: Array, q: Array, k: Array, v: Array, out: Array, lse: Array, scale: float
) -> tuple[Array, Array, Array]:
    r"""Cotangents of q, k, v for G of :math:`O = PV`, with P recomputed from L in tiles.

    .. math:: P_{ij} = e^{s q_i\cdot k_j - L_i},\quad \bar V = P^TG,\quad
              \bar S = s P\circ(GV^T - \mathrm{diag}(GO^T)),\quad \bar Q = \bar SK,\quad \bar K = \bar S^TQ.

    Cost: five products of n_q n_k d; memory two tiles.
    """
    import torch

    of_q, of_k, of_v = (torch.zeros_like(x) for x in (q, k, v))
    delta = (g * out).sum(dim=-1, keepdim=True)
    rows, columns = tile(q, q.shape[-2], k.shape[-2])
    for i in range(0, q.shape[-2], rows):
        above = slice(i, i + rows)
        for j in range(0, k.shape[-2], columns):
            left = slice(j, j + columns)
            p = torch.exp(scale * (q[..., above, :] @ k[..., left, :].mT) - lse[..., above, :])
            of_v[..., left, :] += p.mT @ g[..., above, :]
            p *= scale * (g[..., above, :] @ v[..., left, :].mT - delta[..., above, :])
            of_q[..., above, :] += p @ k[..., left, :]
            of_k[..., left, :] += p.mT @ q[..., above, :]
    return of_q, of_k, of_v
