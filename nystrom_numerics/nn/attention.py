"""Multi-head Nyström attention as a Torch module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nystrom_numerics import distributed
from nystrom_numerics.arguments import require_count
from nystrom_numerics.attention import Pinv, near_field, nystrom, ridge
from nystrom_numerics.distributed.ranks import Group, ranks_of
from nystrom_numerics.distributed.shards import lengths_of, with_halo
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.nn.arguments import (
    require_attention_options,
    require_flags,
    require_multihead,
    require_states,
    require_token_mask,
)
from nystrom_numerics.nn.convolution import convolve
from nystrom_numerics.pinv import Solver

__all__ = ["NystromAttention"]


class NystromAttention(nn.Module):
    r"""Projections, Nyström attention, and the depthwise convolution of the values beside it.

    .. math:: Y = \mathrm{dropout}\big((\hat S V + w * V)\,W_O + b_O\big).

    Parameters
    ----------
    dim : int
        Width of the tokens.
    heads, dim_head : int
        Heads, and the width of each; by default ``dim // heads``.
    landmarks : int
        m, of queries and of keys.  **Where a sequence of queries or keys has at most m tokens, attention is exact**:
        it then costs no more.  See also ``exact``.
    exact : bool
        Exact attention at every length, for comparison or for weights that were trained with it.
    near : int, optional
        In self-attention, see neighbours exactly: :func:`~nystrom_numerics.attention.near_field` with blocks of that
        length, by segment means and ``solver``.
    rule, solver, pinv
        As ``landmarks``, ``solver`` and ``pinv`` of :func:`nystrom_numerics.attention.nystrom`.
    conv_kernel : int, optional
        Odd length of the convolution w over tokens, one filter a head, centred, zero outside; ``None`` for none.
        Source: Xiong et al. 2021, §4; an even length would shift or shorten the sequence.
    bias : tuple of bool
        Whether the projections of q, k, v and of the output have a bias.
    dropout : float
        Probability that an entry of the *output* is dropped in training, the rest being scaled up.  Attention weights
        cannot be dropped: there are none.
    group : ProcessGroup or DeviceMesh, optional
        Tokens lie in shards on the ranks of this group (see :mod:`nystrom_numerics.distributed`): ``x`` is this rank's,
        of any number of tokens, and lengths that decide are those of all ranks.  Weights are the same on every rank;
        of their derivatives each rank has a share, and the sum over ranks is that of the sum of the losses.

    Raises
    ------
    KindError
        A flag that is none, or a ``rule``, ``solver`` or ``pinv`` that cannot be called, or a ``group`` that is none.
    RangeError
        A number out of its range, naming it; ``near`` together with ``pinv`` or another ``rule``, ``group`` together
        with another ``rule``.

    Notes
    -----
    Cost of a call: four products n × dim × (heads · dim_head), the attention of
    :func:`nystrom_numerics.attention.nystrom` and a convolution; memory O(n dim), backward too.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import nn
    >>> attend = nn.NystromAttention(32, heads=4, landmarks=16)
    >>> attend(torch.randn(2, 300, 32)).shape, attend.runs_exactly(16, 300)
    (torch.Size([2, 300, 32]), True)
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int = 8,
        dim_head: int | None = None,
        landmarks: int = 64,
        exact: bool = False,
        near: int | None = None,
        rule: Strategy = segment_means,
        solver: Solver = ridge,
        pinv: Pinv | None = None,
        conv_kernel: int | None = 33,
        bias: tuple[bool, bool] = (True, True),
        dropout: float = 0.0,
        group: Group = None,
    ) -> None:
        super().__init__()
        dim, heads = require_count("dim", dim), require_count("heads", heads)
        if dim_head is None and dim % heads:
            raise RangeError("heads", f"{heads}", f"a divisor of `dim`, {dim}, or an explicit `dim_head`")
        dim_head = dim // heads if dim_head is None else require_count("dim_head", dim_head)
        bias = require_flags("bias", bias)
        require_attention_options(
            landmarks=landmarks,
            exact=exact,
            near=near,
            rule=rule,
            solver=solver,
            pinv=pinv,
            conv_kernel=conv_kernel,
            dropout=dropout,
            group=group,
        )
        inner = heads * dim_head
        self.heads, self.landmarks, self.exact, self.near = heads, landmarks, exact, near
        self.rule, self.solver, self.pinv, self.group = rule, solver, pinv, group
        self.query = nn.Linear(dim, inner, bias=bias[0])
        self.key = nn.Linear(dim, inner, bias=bias[0])
        self.value = nn.Linear(dim, inner, bias=bias[0])
        self.out = nn.Linear(inner, dim, bias=bias[1])
        self.conv = (
            None
            if conv_kernel is None
            else nn.Conv2d(
                heads, heads, (conv_kernel, 1), padding=(conv_kernel // 2, 0), groups=heads, bias=False
            )
        )
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def from_multihead(
        cls,
        multihead: nn.MultiheadAttention,
        /,
        *,
        landmarks: int = 64,
        exact: bool = False,
        near: int | None = None,
        rule: Strategy = segment_means,
        solver: Solver = ridge,
        pinv: Pinv | None = None,
        leave_out_dropout: bool = False,
    ) -> NystromAttention:
        """The same projections around Nyström attention, with copies of the weights, in the mode of ``multihead``.

        Tokens come first in a batch here, (b, n, dim), whatever ``batch_first`` says there.

        Parameters
        ----------
        multihead : torch.nn.MultiheadAttention
        landmarks, exact, near, rule, solver, pinv
            As for :class:`NystromAttention`.
        leave_out_dropout : bool
            Convert an attention that drops weights in training to one that does not: there are none to drop.

        Raises
        ------
        KindError
            ``multihead`` is another module, or has a ``forward`` of its own; an option of another type.
        RangeError
            It has ``kdim`` or ``vdim`` other than its width, ``add_bias_kv``, ``add_zero_attn``, or, unless that is
            left out, ``dropout``; or an option is out of its range.
        """
        require_multihead(multihead, leave_out_dropout)
        weights, biases = multihead.in_proj_weight, multihead.in_proj_bias
        made = cls(
            multihead.embed_dim,
            heads=multihead.num_heads,
            landmarks=landmarks,
            exact=exact,
            near=near,
            rule=rule,
            solver=solver,
            pinv=pinv,
            conv_kernel=None,
            bias=(biases is not None, multihead.out_proj.bias is not None),
        ).to(weights)
        projections = (made.query, made.key, made.value)
        with torch.no_grad():
            for projection, weight in zip(projections, weights.chunk(3), strict=True):
                projection.weight.copy_(weight)
            if biases is not None:
                for projection, bias in zip(projections, biases.chunk(3), strict=True):
                    projection.bias.copy_(bias)
        made.out.load_state_dict(multihead.out_proj.state_dict())
        return made.train(multihead.training)

    def runs_exactly(self, n_q: int, n_k: int) -> bool:
        """Whether attention between that many tokens is exact.

        Parameters
        ----------
        n_q, n_k : int
            Queries and keys, at least 1.

        Returns
        -------
        bool

        Raises
        ------
        RangeError
            Naming the argument.
        """
        return self._runs_exactly(require_count("n_q", n_q), require_count("n_k", n_k))

    def _runs_exactly(self, n_q: int, n_k: int) -> bool:
        return self.exact or min(n_q, n_k) <= self.landmarks

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from ``x`` (b, n, dim) to itself or to ``context`` (b, n_k, dim).

        Parameters
        ----------
        x : tensor (b, n, dim)
        context : tensor (b, n_k, dim), optional
            What is attended to, in place of ``x`` itself.
        mask, context_mask : tensor (b, n), (b, n_k) of bool, optional
            True for real tokens; padding, wherever it is and whatever it holds, changes no real token.  (The
            convolution goes over positions, as zeros where padding stands: tokens on both sides of a gap stay as
            far apart as they are.)  The second is asked for with a context only.

        Returns
        -------
        tensor (b, n, dim)

        Raises
        ------
        DTypeError, NamespaceError
            Naming the argument.
        ShapeError
            Naming the argument: also a ``context_mask`` without a context, or a convolution over values of another
            length than ``x``.
        """
        self._require("x", x, "mask", mask)
        oneself = context is None
        if context is None:
            if context_mask is not None:
                raise ShapeError(
                    "context_mask", "given without a context", "`context`, or `mask` in its place"
                )
            context, context_mask = x, mask
        else:
            self._require("context", context, "context_mask", context_mask)
            if self.conv is not None and context.shape[-2] != x.shape[-2]:
                needs = f"{x.shape[-2]} tokens as `x`, or conv_kernel=None"
                raise ShapeError("context", f"of {context.shape[-2]} tokens", needs)
        x, context = _hidden(x, mask), _hidden(context, context_mask)
        q, k, v = self._split(self.query(x)), self._split(self.key(context)), self._split(self.value(context))
        queries, keys = (None if given is None else given[:, None, :] for given in (mask, context_mask))
        if keys is not None:
            v = torch.where(keys[..., None], v, torch.zeros_like(v[..., :1]))
        if self.group is not None:
            return self._finished(self._over_ranks(q, k, v, queries, keys, oneself))
        # before attention, whose derivative so comes first: what the convolution's gives is not yet there beside it
        convolved = None if self.conv is None else convolve(v, self.conv)
        if self._runs_exactly(q.shape[-2], k.shape[-2]):
            y = self._exact(q, k, v, keys)
        elif self.near is not None and oneself:
            y = near_field(q, k, v, self.landmarks, block=self.near, solver=self.solver, mask=keys)
        else:
            y = nystrom(
                q,
                k,
                v,
                self.landmarks,
                landmarks=self.rule,
                solver=self.solver,
                pinv=self.pinv,
                query_mask=queries,
                key_mask=keys,
            )
        if convolved is not None:
            y = y + convolved
        return self._finished(y)

    def _finished(self, y: Tensor) -> Tensor:
        projected: Tensor = self.out(y.transpose(1, 2).flatten(2))
        dropped: Tensor = self.dropout(projected)
        return dropped

    def _over_ranks(
        self, q: Tensor, k: Tensor, v: Tensor, queries: Tensor | None, keys: Tensor | None, oneself: bool
    ) -> Tensor:
        """Attention of shards, and the convolution of values with those beside them."""
        ranks = ranks_of(self.group)
        n_q, n_k = (
            lengths_of(ranks, name, x.shape[-2], x, batch=x.shape[0])
            for name, x in (("x", q), ("x" if oneself else "context", k))
        )
        if self._runs_exactly(sum(n_q), sum(n_k)):
            y = distributed.exact(q, k, v, group=self.group, key_mask=keys)
        elif self.near is not None and oneself:
            y = distributed.near_field(
                q, k, v, self.landmarks, group=self.group, block=self.near, solver=self.solver, mask=keys
            )
        else:
            y = distributed.nystrom(
                q,
                k,
                v,
                self.landmarks,
                group=self.group,
                solver=self.solver,
                pinv=self.pinv,
                query_mask=queries,
                key_mask=keys,
            )
        if self.conv is None:
            return y
        half = self.conv.kernel_size[0] // 2
        beside = with_halo(ranks, n_k, v, half, half)
        return y + convolve(beside, self.conv)[..., half : half + v.shape[-2], :]

    def _require(self, name: str, x: Tensor, of_mask: str, mask: Tensor | None) -> None:
        floating = (p.dtype for p in self.parameters() if p.is_floating_point())
        require_states(name, x, self.query.in_features, next(floating, None), shard=self.group is not None)
        if mask is not None:
            require_token_mask(of_mask, mask, tuple(x.shape[:-1]))

    def _exact(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return nn.functional.scaled_dot_product_attention(q, k, v)
        alone = ~mask.any(dim=-1)[..., None, None]  # an item without any key: zeros, and no NaN on the way
        k = torch.where(mask[..., None], k, torch.zeros_like(k[..., :1]))
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, :, None] | alone)
        return torch.where(alone, torch.zeros_like(y[..., :1]), y)

    def _split(self, x: Tensor) -> Tensor:
        """(b, n, heads · d) as (b, heads, n, d)."""
        return x.reshape(*x.shape[:-1], self.heads, x.shape[-1] // self.heads).transpose(1, 2)


def _hidden(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros where padding stands: what it holds reaches no product, and no derivative of the weights."""
    return x if mask is None else torch.where(mask[..., None], x, torch.zeros_like(x[..., :1]))
