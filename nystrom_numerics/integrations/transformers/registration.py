"""Making the attention known to transformers."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.arguments import require_callable, require_choice, require_count, require_flag
from nystrom_numerics.attention import Pinv, ridge
from nystrom_numerics.errors import RangeError
from nystrom_numerics.integrations.transformers.attention import NystromAttentionFunction
from nystrom_numerics.integrations.transformers.masks import mask_by_rule
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.pinv import Solver

__all__ = ["register_with_transformers"]


def register_with_transformers(
    name: str = "nystrom",
    *,
    m: int = 64,
    block: int | None = None,
    near: int | None = None,
    tangent: bool = False,
    row_normalised: bool = False,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    pinv: Pinv | None = None,
    leave_out_dropout: bool = False,
    causal: str = "refuse",
    error: None = None,
) -> None:
    """Make ``attn_implementation=name`` known to transformers; again with the same name replaces it.

    A text attending to itself is approximated where it has more than m tokens, be it in full or causally.  Everything
    else is exact, computed by blocks without n × n arrays, at the cost of the pairs of tokens that there are: attention
    between two texts, to a cache of earlier tokens, through a sliding window or chunks, in packed texts, and of at
    most m queries or keys.  Padding, on either side, changes nothing for real tokens; grouped heads and any scaling
    are served.

    Parameters
    ----------
    name : str
        An identifier that is not one of transformers' own, and holds no "flash", "sdpa", "eager", "flex" or "paged".
    m : int
        Landmarks.
    block : int, optional
        Serve causal attention by :func:`nystrom_numerics.attention.causal` with blocks of that length, a multiple of
        32 at best, m/2 near keys, and m/16 groups for each query to choose: its defaults for m = 64.  Without it,
        see ``causal``.
    near : int, optional
        Serve full attention by :func:`~nystrom_numerics.attention.near_field` with blocks of that length: on trained
        models far nearer to their own attention than ``nystrom``; ``near=p`` and ``m=p // 4 - 1`` take the kernel
        entries of ``nystrom`` with p landmarks.  Texts of at most ``near`` tokens are then exact too.
    tangent : bool
        Serve full attention by :func:`~nystrom_numerics.attention.tangent`, with the kernel entries of ``nystrom`` with
        m landmarks: of all estimators here the nearest to a trained model's own attention.
    row_normalised : bool
        Use :func:`~nystrom_numerics.attention.normalised` in place of :func:`~nystrom_numerics.attention.nystrom`.
    landmarks, solver, pinv
        As in :func:`nystrom_numerics.attention.nystrom`.
    leave_out_dropout : bool
        Train without the dropout of attention weights that a model asks for: there are none to drop.  Otherwise such
        a model is refused in training.
    causal : str
        What becomes of causal attention of more than m tokens without a ``block``: ``"refuse"``, or ``"exact"``, which
        serves models one part of which is causal, such as CLIP's text tower or Whisper's decoder.
    error : None
        A tolerance is none of a registration, which knows no inputs: it is asked of :func:`calibrate`.

    Returns
    -------
    None
        The name is known to transformers from then on.

    Raises
    ------
    KindError
        An option of another type: a ``landmarks``, ``solver`` or ``pinv`` that cannot be called, a flag that is none.
    RangeError
        A ``name`` as above; ``m``, ``block`` or ``near`` no integer of at least 1; a ``pinv`` together with ``block``,
        ``near`` or ``row_normalised``; ``causal`` another word, or ``"exact"`` beside a ``block``; ``near`` with
        landmarks other than segment means, or normalised rows; ``tangent`` with an option of another estimator; or an
        ``error``.

    Notes
    -----
    What tokens see is read from the mask that the model asks transformers for, by its rule and not by its entries; a
    model that makes a mask by itself, n × n entries, has it looked through.  Whether keys are of the same text as
    queries is taken from what the module says of itself (``is_cross_attention``, ``is_decoder``, its class, the
    arguments of its ``forward``), and never from lengths; in doubt attention is exact.

    A prompt is approximated, and queries after a cache, those of a chunk or a second turn too, are exact: pilots and
    covariances of :func:`~nystrom_numerics.attention.causal` come of earlier queries, which no cache keeps.  Of c
    queries after p keys that is c(p + c/2) kernel entries by a fused kernel, where one of ``causal`` takes several
    times as long.  So a prompt that is read in chunks is exact behind the first, and gains nothing.

    In use, :class:`UnsupportedModelError` names the model and what it asks for: causal attention as above, biases for
    pairs of positions, soft caps, sinks, keys chosen for each query, paged caches, attention weights, and any option
    unknown here.  A model that does not dispatch through the interface never calls this; :func:`use_nystrom` refuses
    it.  Every architecture of transformers is tried in ``docs/conformance.md``.

    Examples
    --------
    >>> from nystrom_numerics.integrations.transformers import register_with_transformers
    >>> register_with_transformers(m=64, block=256)

    Budgets by head for a tolerance, such as ``error=0.05``, need inputs: :func:`calibrate` chooses them on some, keeps
    them in the model's configuration, and whatever is registered uses them.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    if error is not None:
        raise RangeError("error", f"{error!r}", "`calibrate(model, inputs, error=…)`, which needs inputs")
    _require_name(name)
    m = require_count("m", m)
    block, near = (None if x is None else require_count(n, x) for n, x in (("block", block), ("near", near)))
    row_normalised, tangent = require_flag("row_normalised", row_normalised), require_flag("tangent", tangent)
    for option, function in (("landmarks", landmarks), ("solver", solver)):
        require_callable(option, function)
    if pinv is not None:
        require_callable("pinv", pinv)
        if block is not None or near is not None or row_normalised:
            raise RangeError("pinv", "given", "`solver` in its place, as more is solved for than the output")
    if require_choice("causal", causal, ("refuse", "exact")) == "exact" and block is not None:
        raise RangeError("causal", "'exact' beside a `block`", "one of the two")
    if near is not None and (row_normalised or landmarks is not segment_means):
        raise RangeError(
            "near", f"{near}", "segment means, and rows normalised by their near and far fields alone"
        )
    others = {"near": near is not None, "row_normalised": row_normalised, "pinv": pinv is not None}
    others |= {"landmarks": landmarks is not segment_means, "solver": solver is not ridge}
    if tangent and any(others.values()):
        given = ", ".join(f"`{option}`" for option, there in others.items() if there)
        raise RangeError("tangent", f"True beside {given}", "no option of another estimator")
    attend = NystromAttentionFunction(
        m=m,
        block=block,
        near=near,
        tangent=tangent,
        row_normalised=row_normalised,
        landmarks=landmarks,
        solver=solver,
        pinv=pinv,
        leave_out_dropout=require_flag("leave_out_dropout", leave_out_dropout),
        causal_exactly=causal == "exact",
    )
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, mask_by_rule)


def _require_name(name: Any) -> None:
    from transformers import AttentionInterface

    taken = AttentionInterface().get(name) if isinstance(name, str) else None  # type: ignore[no-untyped-call]
    spoken_for = ("flash", "sdpa", "eager", "flex", "paged")  # transformers looks for these words in names
    if (
        not isinstance(name, str)
        or not name.isidentifier()
        or any(word in name for word in spoken_for)
        or not isinstance(taken, (NystromAttentionFunction, type(None)))
    ):
        raise RangeError("name", repr(name), "an identifier that means nothing else to transformers")
