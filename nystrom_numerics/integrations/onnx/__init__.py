"""Attention in ONNX, by the exporter of Torch: ``torch.onnx.export(…, custom_translation_table=translations())``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nystrom_numerics.extras import brought_by

__all__ = ["translations"]


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What Torch's exporter to ONNX lacks of what attention calls, for its ``custom_translation_table``.

    ``torch.linalg.cholesky_ex``, ``torch.linalg.solve_triangular`` of a matrix on the left, a stable ``torch.sort``
    in operators that ONNX has: the first two as loops over the m rows of a core, no factorisation being known there.

    Returns
    -------
    dict
        Functions of onnxscript, which is needed, by operators of Torch; of float32.

    Raises
    ------
    ImportError
        ``onnxscript`` is not installed.

    Notes
    -----
    Cost: O(1); in the graph O(m³) a core, as loops of m passes.

    So ``nystrom`` with its default solver, ``integrations.torch.sdpa`` and ``nn.NystromAttention`` are exported for any
    length, with padding; the other estimators are not.  ``pinv=`` with an iteration needs none of this without masks.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import attention
    >>> from nystrom_numerics.integrations.onnx import translations
    >>> class Attention(torch.nn.Module):
    ...     def forward(self, q, k, v):
    ...         return attention.nystrom(q, k, v, 8)
    >>> tokens = torch.randn(3, 1, 2, 100, 8).unbind()
    >>> length = torch.export.Dim("length", min=20, max=4096)
    >>> options = {"dynamic_shapes": [{2: length}] * 3, "custom_translation_table": translations()}
    >>> torch.onnx.export(Attention(), tokens, "attention.onnx", dynamo=True, **options)  # doctest: +SKIP
    """
    with brought_by("onnx"):
        import torch

        from nystrom_numerics.integrations.onnx.operators import cholesky_ex, solve_triangular, sort_stable

    aten = torch.ops.aten
    return {
        aten.linalg_cholesky_ex.default: cholesky_ex,
        aten.linalg_solve_triangular.default: solve_triangular,
        aten.sort.stable: sort_stable,
    }
