"""Operators of Torch that its exporter does not know, in operators that ONNX has.

onnxscript reads these functions as text: their loops and attributes are those of ONNX.
"""

# mypy: ignore-errors
from onnxscript import FLOAT, INT32, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

__all__ = ["cholesky_ex", "solve_triangular", "sort_stable"]

OURS = Opset("nystrom_numerics", 1)


@script(OURS, default_opset=op)
def cholesky_ex(a: FLOAT, upper: int = 0, check_errors: int = 0) -> tuple[FLOAT, INT32]:
    """L (..., m, m) of A = LLᵀ column by column, and 1 where A is not positive definite, else 0."""
    size = op.Shape(a, start=-1)
    matrices = op.Reshape(a, op.Concat(op.Constant(value_ints=[-1]), size, size, axis=0))
    m = op.Squeeze(size)
    index = op.Range(0, m, 1)
    rest = matrices
    factor = op.Sub(matrices, matrices)
    for j in range(m):
        here = op.CastLike(op.Equal(index, j), matrices)
        below = op.CastLike(op.GreaterOrEqual(index, j), matrices)
        column = op.MatMul(rest, op.Unsqueeze(here, [1]))
        pivot = op.MatMul(op.Unsqueeze(here, [0]), column)
        column = column / op.Sqrt(pivot) * op.Unsqueeze(below, [1])
        rest = rest - op.MatMul(column, op.Transpose(column, perm=[0, 2, 1]))
        factor = factor + op.MatMul(column, op.Unsqueeze(here, [0]))
    lengths = op.ReduceSum(factor * factor, [1, 2], keepdims=0)
    unsound = op.Cast(op.Or(op.IsNaN(lengths), op.IsInf(lengths)), to=6)
    batch = op.Shape(a, end=-2)
    return op.Reshape(factor, op.Shape(a)), op.Reshape(unsound, batch)


@script(OURS, default_opset=op)
def solve_triangular(a: FLOAT, b: FLOAT, upper: int = 0, left: int = 1, unitriangular: int = 0) -> FLOAT:
    """A⁻¹B of triangular A (..., m, m) and B (..., m, r) of one batch, row by row."""
    size = op.Shape(a, start=-1)
    width = op.Shape(b, start=-1)
    matrices = op.Reshape(a, op.Concat(op.Constant(value_ints=[-1]), size, size, axis=0))
    rest = op.Reshape(b, op.Concat(op.Constant(value_ints=[-1]), size, width, axis=0))
    m = op.Squeeze(size)
    index = op.Range(0, m, 1)
    backwards = op.Constant(value_int=upper)
    found = op.Sub(rest, rest)
    for j in range(m):
        at = j + backwards * (m - 1 - 2 * j)
        here = op.CastLike(op.Equal(index, at), matrices)
        column = op.MatMul(matrices, op.Unsqueeze(here, [1]))
        pivot = op.MatMul(op.Unsqueeze(here, [0]), column)
        row = op.MatMul(op.Unsqueeze(here, [0]), rest) / pivot
        found = found + op.MatMul(op.Unsqueeze(here, [1]), row)
        rest = rest - op.MatMul(column, row)
    return op.Reshape(found, op.Shape(b))


def sort_stable(x, stable: bool | None = True, dim: int = -1, descending: bool = False):
    """Values in order and where they stood; of equal ones TopK takes the first first."""
    size = op.Unsqueeze(op.Gather(op.Shape(x), op.Constant(value_int=dim)), op.Constant(value_ints=[0]))
    return op.TopK(x, size, axis=dim, largest=int(descending), sorted=1)
