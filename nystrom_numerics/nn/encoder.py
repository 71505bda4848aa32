"""The Nyströmformer: embeddings, encoder, and heads for masked language modelling and classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nystrom_numerics.arguments import (
    require_callable,
    require_count,
    require_flag,
    require_instance,
    require_positive,
    require_tolerance,
)
from nystrom_numerics.attention import Pinv, ridge
from nystrom_numerics.distributed.ranks import Group, ranks_of
from nystrom_numerics.distributed.shards import first_places, first_tokens, lengths_of
from nystrom_numerics.errors import KindError, RangeError, ShapeError
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.nn.arguments import (
    require_attention_options,
    require_numbers,
    require_states,
    require_token_mask,
)
from nystrom_numerics.nn.attention import NystromAttention
from nystrom_numerics.pinv import Solver

__all__ = [
    "Nystromformer",
    "NystromformerConfig",
    "NystromformerForClassification",
    "NystromformerForMaskedLM",
    "PreNormEncoder",
]


@dataclass(frozen=True)
class NystromformerConfig:
    """Sizes of the model; the defaults are the paper's, which are those of BERT-base.

    Attributes
    ----------
    vocabulary : int
    dim, depth, heads, feed_forward : int
        Width, layers, heads of dim // heads each, and width between the two maps of the feed-forward.
    max_positions, pad_offset : int
        Positions that are known, and what is added to them before they are looked up.
    types : int
        Segments; 0 for none.
    pad_id : int or None
        The token whose embedding takes no gradient.
    landmarks, exact, near, rule, solver, pinv, conv_kernel, group
        As in :class:`NystromAttention`.  With ``group`` tokens lie in shards on its ranks; positions are those of the
        whole sequence.
    activation : str
        Of the feed-forward.
    dropout : float
        Of embeddings, attention output and feed-forward output.
    eps : float
        Of layer normalisations.

    Examples
    --------
    >>> from nystrom_numerics import nn
    >>> config = nn.NystromformerConfig(30_000, landmarks=32)
    >>> config.dim, config.depth, config.landmarks
    (768, 12, 32)
    """

    vocabulary: int
    dim: int = 768
    depth: int = 12
    heads: int = 12
    feed_forward: int = 3072
    max_positions: int = 512
    pad_offset: int = 0
    types: int = 2
    pad_id: int | None = None
    landmarks: int = 64
    exact: bool = False
    near: int | None = None
    rule: Strategy = segment_means
    solver: Solver = ridge
    pinv: Pinv | None = None
    conv_kernel: int | None = 33
    activation: Callable[[Tensor], Tensor] = nn.functional.gelu
    dropout: float = 0.1
    eps: float = 1e-5
    group: Group = None

    def __post_init__(self) -> None:
        sizes = ("vocabulary", "dim", "depth", "heads", "feed_forward", "max_positions", "types")
        for name in sizes:
            require_count(name, getattr(self, name))
        require_count("pad_offset", self.pad_offset, 0)
        if self.pad_id is not None:
            require_count("pad_id", self.pad_id, 0, self.vocabulary - 1)
        if self.dim % self.heads:
            raise RangeError("heads", f"{self.heads}", f"a divisor of `dim`, {self.dim}")
        require_attention_options(
            landmarks=self.landmarks,
            exact=self.exact,
            near=self.near,
            rule=self.rule,
            solver=self.solver,
            pinv=self.pinv,
            conv_kernel=self.conv_kernel,
            dropout=self.dropout,
            group=self.group,
        )
        require_callable("activation", self.activation)
        require_positive("eps", self.eps)


class _Embeddings(nn.Module):
    def __init__(self, c: NystromformerConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(c.vocabulary, c.dim, padding_idx=c.pad_id)
        self.positions = nn.Embedding(c.max_positions + c.pad_offset, c.dim)
        self.types = nn.Embedding(c.types, c.dim)
        self.norm = nn.LayerNorm(c.dim, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)
        self.offset, self.longest, self.group = c.pad_offset, c.max_positions, c.group

    def forward(self, ids: Tensor, mask: Tensor | None, types: Tensor | None) -> Tensor:
        """Positions count real tokens only, so that padding on the left changes nothing either."""
        shard = self.group is not None
        require_numbers("ids", ids, self.words.num_embeddings, shard=shard)
        if types is not None:
            require_numbers("types", types, self.types.num_embeddings, tuple(ids.shape), shard=shard)
        if mask is not None:
            require_token_mask("mask", mask, tuple(ids.shape))
        place = self._places(ids, mask) if shard else self._places_alone(ids, mask)
        x = self.words(ids) + self.positions(place + self.offset)
        x = x + self.types(torch.zeros_like(ids) if types is None else types)
        dropped: Tensor = self.dropout(self.norm(x))
        return dropped

    def _places_alone(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        n = ids.shape[-1]
        if mask is None:
            if n > self.longest:
                raise ShapeError("ids", f"of {n} tokens", f"at most {self.longest} tokens")
            return torch.arange(n, device=ids.device).expand_as(ids)
        if n > self.longest and (most := int(mask.sum(-1).max())) > self.longest:
            raise ShapeError("mask", f"of {most} real tokens", f"at most {self.longest}")
        return (mask.long().cumsum(-1) - 1).clamp(0, self.longest - 1)

    def _places(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Among the tokens of all ranks."""
        ranks, n = ranks_of(self.group), ids.shape[-1]
        lengths = lengths_of(ranks, "ids", n, ids, batch=ids.shape[0], mask=int(mask is not None))
        before, total = first_places(ranks, lengths, mask)
        name, what = ("ids", "tokens") if mask is None else ("mask", "real tokens")
        if sum(lengths) > self.longest and (most := int(total.max())) > self.longest:
            raise ShapeError(name, f"of {most} {what} on all ranks", f"at most {self.longest}")
        if mask is None:
            return (torch.arange(n, device=ids.device) + int(before)).expand_as(ids)
        return (mask.long().cumsum(-1) - 1 + before[:, None]).clamp(0, self.longest - 1)


class _Layer(nn.Module):
    def __init__(self, c: NystromformerConfig) -> None:
        super().__init__()
        self.attention = NystromAttention(
            c.dim,
            heads=c.heads,
            landmarks=c.landmarks,
            exact=c.exact,
            near=c.near,
            rule=c.rule,
            solver=c.solver,
            pinv=c.pinv,
            conv_kernel=c.conv_kernel,
            dropout=c.dropout,
            group=c.group,
        )
        self.attention_norm = nn.LayerNorm(c.dim, eps=c.eps)
        self.up = nn.Linear(c.dim, c.feed_forward)
        self.down = nn.Linear(c.feed_forward, c.dim)
        self.norm = nn.LayerNorm(c.dim, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)
        self.activation = c.activation

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention_norm(x + self.attention(x, mask=mask))
        normed: Tensor = self.norm(x + self.dropout(self.down(self.activation(self.up(x)))))
        return normed


def _start(module: nn.Module) -> None:
    """BERT's initial weights: normal with deviation 0.02, biases zero."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


class Nystromformer(nn.Module):
    """Embeddings and ``depth`` layers, each normalised after its sum (Xiong et al. 2021, §4, as in BERT).

    ``model(ids, mask=mask, types=types)`` takes token numbers (b, n), a mask that is True for real tokens and segment
    numbers, and gives states (b, n, dim).  Those of padding mean nothing.

    Parameters
    ----------
    config : NystromformerConfig

    Raises
    ------
    KindError
        Naming the argument.

    Notes
    -----
    Cost: per layer that of :class:`NystromAttention`, and two products n × dim × feed_forward.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import nn
    >>> config = nn.NystromformerConfig(100, dim=16, depth=2, heads=2, feed_forward=32, landmarks=8)
    >>> nn.Nystromformer(config)(torch.arange(60)[None]).shape
    torch.Size([1, 60, 16])
    """

    def __init__(self, config: NystromformerConfig) -> None:
        super().__init__()
        self.config = require_instance("config", config, NystromformerConfig)
        self.embeddings = _Embeddings(config)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        self.apply(_start)

    def forward(self, ids: Tensor, *, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """States of every token.

        Parameters
        ----------
        ids : tensor (b, n) of int
        mask : tensor (b, n) of bool, optional
            True for real tokens.
        types : tensor (b, n) of int, optional
            Segment numbers; zeros by default.

        Returns
        -------
        tensor (b, n, dim)

        Raises
        ------
        DTypeError, RangeError, ShapeError
            Naming the argument.
        """
        x: Tensor = self.embeddings(ids, mask, types)
        for layer in self.layers:
            x = layer(x, mask)
        return x


class _PreNormLayer(nn.Module):
    def __init__(self, attention: NystromAttention, dim: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(dim), attention
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, feed_forward), nn.Linear(feed_forward, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask=mask)
        changed: Tensor = x + self.down(self.dropout(nn.functional.gelu(self.up(self.norm(x)))))
        return changed


class PreNormEncoder(nn.Module):
    """Layers that normalise before attention and feed-forward, states (b, n, dim) to states: no embeddings, no heads.

    Parameters
    ----------
    attentions : sequence of NystromAttention
        That of every layer, at least one.
    dim, feed_forward : int
        Widths of the states and of the layer between the two linear maps.
    dropout : float
        Between the two linear maps.

    Raises
    ------
    KindError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: per layer that of :class:`NystromAttention`, and two products n × dim × feed_forward.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import nn
    >>> layers = [nn.NystromAttention(16, heads=2, landmarks=8) for _ in range(2)]
    >>> nn.PreNormEncoder(layers, dim=16, feed_forward=32)(torch.randn(2, 60, 16)).shape
    torch.Size([2, 60, 16])
    """

    def __init__(
        self, attentions: Sequence[NystromAttention], *, dim: int, feed_forward: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        dim, feed_forward = require_count("dim", dim), require_count("feed_forward", feed_forward)
        dropout = require_tolerance("dropout", dropout)
        if not isinstance(attentions, Sequence) or not attentions:
            raise KindError(
                "attentions", f"a {type(attentions).__name__}", "a list of attentions, one at least"
            )
        for a in attentions:
            width = require_instance("attentions", a, NystromAttention).query.in_features
            if width != dim:
                raise ShapeError("dim", f"{dim}", f"the width of the tokens of `attentions`, {width}")
            if a.group is not attentions[0].group:
                raise RangeError("attentions", "of several groups", "one `group` for all, or none")
        self.dim = dim
        self.layers = nn.ModuleList(_PreNormLayer(a, dim, feed_forward, dropout) for a in attentions)
        self.group = attentions[0].group

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """States to states.

        Parameters
        ----------
        x : tensor (b, n, dim)
        mask : tensor (b, n) of bool, optional
            True for real tokens.

        Returns
        -------
        tensor (b, n, dim)

        Raises
        ------
        DTypeError, KindError, ShapeError
            Naming the argument.
        """
        require_states("x", x, self.dim, next(self.parameters()).dtype, shard=self.group is not None)
        if mask is not None:
            require_token_mask("mask", mask, tuple(x.shape[:-1]))
        for layer in self.layers:
            x = layer(x, mask)
        return x


class NystromformerForMaskedLM(nn.Module):
    """Scores of every token of the vocabulary at every place.

    Parameters
    ----------
    config : NystromformerConfig
    tied : bool
        Output weights are the embeddings; otherwise weights of their own.

    Raises
    ------
    KindError
        Naming the argument.

    Notes
    -----
    Cost: that of :class:`Nystromformer`, and a product n × dim × vocabulary.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import nn
    >>> config = nn.NystromformerConfig(100, dim=16, depth=1, heads=2, feed_forward=32, landmarks=8)
    >>> nn.NystromformerForMaskedLM(config)(torch.arange(60)[None]).shape
    torch.Size([1, 60, 100])
    """

    def __init__(self, config: NystromformerConfig, *, tied: bool = True) -> None:
        super().__init__()
        self.encoder = Nystromformer(config)
        own = None if require_flag("tied", tied) else torch.empty(config.vocabulary, config.dim)
        self.decoder = None if own is None else nn.Parameter(nn.init.normal_(own, std=0.02))
        self.dense = nn.Linear(config.dim, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.eps)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.dense.apply(_start)

    def forward(self, ids: Tensor, *, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Scores of every token of the vocabulary.

        Parameters
        ----------
        ids, mask, types
            As for :class:`Nystromformer`.

        Returns
        -------
        tensor (b, n, vocabulary)

        Raises
        ------
        DTypeError, RangeError, ShapeError
            Naming the argument.
        """
        x = self.encoder(ids, mask=mask, types=types)
        x = self.norm(self.encoder.config.activation(self.dense(x)))
        weight = self.encoder.embeddings.words.weight if self.decoder is None else self.decoder
        return nn.functional.linear(x, weight, self.bias)


class NystromformerForClassification(nn.Module):
    """Scores of every class, read off the first real token.

    Over ranks it is that of the whole sequence, and every rank has the scores: a loss of them made on each counts as
    many times.

    Parameters
    ----------
    config : NystromformerConfig
    classes : int
        At least 1.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: that of :class:`Nystromformer`.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import nn
    >>> config = nn.NystromformerConfig(100, dim=16, depth=1, heads=2, feed_forward=32, landmarks=8)
    >>> nn.NystromformerForClassification(config, 3)(torch.arange(60)[None]).shape
    torch.Size([1, 3])
    """

    def __init__(self, config: NystromformerConfig, classes: int) -> None:
        super().__init__()
        classes = require_count("classes", classes)
        self.encoder = Nystromformer(config)
        self.dense = nn.Linear(config.dim, config.dim)
        self.out = nn.Linear(config.dim, classes)
        self.dropout = nn.Dropout(config.dropout)
        self.dense.apply(_start)
        self.out.apply(_start)

    def forward(self, ids: Tensor, *, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Scores of every class.

        Parameters
        ----------
        ids, mask, types
            As for :class:`Nystromformer`.

        Returns
        -------
        tensor (b, classes)

        Raises
        ------
        DTypeError, RangeError, ShapeError
            Naming the argument.
        """
        x = self.encoder(ids, mask=mask, types=types)
        if (group := self.encoder.config.group) is not None:
            ranks = ranks_of(group)
            x = first_tokens(ranks, lengths_of(ranks, "ids", x.shape[-2], x), x, mask)
        elif mask is None:
            x = x[:, 0]
        else:
            first = mask.long().argmax(dim=-1)
            x = x[torch.arange(len(x), device=x.device), first]
        x = self.encoder.config.activation(self.dense(self.dropout(x)))
        scores: Tensor = self.out(self.dropout(x))
        return scores
