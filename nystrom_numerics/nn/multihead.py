"""Torch's own encoder with Nyström attention in place of :class:`torch.nn.MultiheadAttention`."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nystrom_numerics.arguments import require_callable, require_instance
from nystrom_numerics.errors import DTypeError, KindError, RangeError
from nystrom_numerics.nn.attention import NystromAttention

__all__ = ["from_transformer_encoder"]


def from_transformer_encoder(
    encoder: nn.TransformerEncoder,
    /,
    convert: Callable[[nn.MultiheadAttention], NystromAttention] = NystromAttention.from_multihead,
) -> nn.TransformerEncoder:
    """A copy of Torch's encoder, with its weights, whose layers attend by Nyström.

    It is called as before, tokens or items first; what ``src_key_padding_mask`` hides changes nothing for the others.
    Torch's fused inference, which never calls the attention of a layer, is off.

    Parameters
    ----------
    encoder : torch.nn.TransformerEncoder
    convert : callable
        Makes the attention of one layer; bind options such as ``landmarks`` by ``functools.partial``.

    Returns
    -------
    torch.nn.TransformerEncoder

    Raises
    ------
    KindError
        ``encoder`` is none, or has a layer that is no :class:`torch.nn.TransformerEncoderLayer` with a multi-head
        attention; ``convert`` cannot be called or gives something else.
    RangeError
        As :meth:`NystromAttention.from_multihead` raises it.

    Notes
    -----
    Cost: O(1) beyond a copy of the weights.

    In use, a ``mask`` of pairs of tokens and ``is_causal`` are refused by a :class:`RangeError` that names them, and so
    is a padding mask with other numbers than 0 and −∞; an additive one is looked through, which waits for the device.

    Examples
    --------
    >>> import torch
    >>> from functools import partial
    >>> from nystrom_numerics import nn
    >>> layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    >>> encoder = torch.nn.TransformerEncoder(layer, 2).eval()
    >>> convert = partial(nn.NystromAttention.from_multihead, landmarks=8)
    >>> nn.from_transformer_encoder(encoder, convert)(torch.randn(3, 100, 16)).shape
    torch.Size([3, 100, 16])
    """
    require_instance("encoder", encoder, nn.TransformerEncoder, "a torch.nn.TransformerEncoder")
    require_callable("convert", convert)
    for layer in encoder.layers:
        attention = getattr(layer, "self_attn", None)
        if not isinstance(layer, nn.TransformerEncoderLayer) or not isinstance(
            attention, nn.MultiheadAttention
        ):
            found = f"with a layer {type(layer).__name__} whose attention is {type(attention).__name__}"
            raise KindError("encoder", found, "layers of torch.nn.TransformerEncoderLayer")
    made = copy.deepcopy(encoder)
    made.use_nested_tensor = False
    for layer in made.layers:
        attention = require_instance("convert", convert(layer.self_attn), NystromAttention)
        layer.self_attn = _Multihead(attention, layer.self_attn.batch_first)
    return made


class _Multihead(nn.Module):
    """What a layer of Torch's encoder calls and asks of its attention."""

    in_proj_bias = None  # the two by which a layer finds that it cannot do without calling it
    _qkv_same_embed_dim = False

    def __init__(self, attention: NystromAttention, batch_first: bool) -> None:
        super().__init__()
        self.attention, self.batch_first, self.num_heads = attention, batch_first, attention.heads

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Self-attention, and no weights; arguments are those of :class:`torch.nn.MultiheadAttention`."""
        if key is not query or value is not query:
            raise RangeError("key", "of other tokens than `query`", "self-attention")
        if need_weights:
            raise RangeError("need_weights", "True", "False, as weights are never formed")
        if attn_mask is not None:
            needs = "None, as Nyström attention never meets a pair; `src_key_padding_mask` hides tokens"
            raise RangeError("mask", f"of pairs of tokens {tuple(attn_mask.shape)}", needs)
        if is_causal:
            raise RangeError("is_causal", "True", "False: all tokens see all")
        mask = None if key_padding_mask is None else _real(key_padding_mask)
        batched = query.ndim == 3
        x = query if batched else query[None]
        mask = mask if batched or mask is None else mask[None]
        turned = batched and not self.batch_first
        out = self.attention(x.transpose(0, 1) if turned else x, mask=mask)
        return (out.transpose(0, 1) if turned else out if batched else out[0]), None


def _real(padding: Tensor) -> Tensor:
    """Which tokens are real, of a mask that is true for padding, or added to scores."""
    if padding.dtype == torch.bool:
        return ~padding
    if not padding.is_floating_point():
        raise DTypeError(
            "src_key_padding_mask", f"of dtype {padding.dtype}", "bool, True for padding, or floating"
        )
    hidden = padding <= torch.finfo(padding.dtype).min / 2
    if bool((padding.masked_fill(hidden, 0) != 0).any()):
        raise RangeError(
            "src_key_padding_mask", "a bias of other numbers than 0 and −∞", "padding hidden or not"
        )
    return ~hidden
