"""The one door to array libraries: namespaces, dtypes, devices and randomness.

Every other module asks this one for the array-API namespace of its arguments and then writes
standard code.  Whatever is particular to one library stands here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from math import prod
from typing import Any, ParamSpec, TypeAlias, TypeVar

import array_api_compat
import numpy as np

from nystrom_numerics.errors import (
    DeviceError,
    DTypeError,
    NamespaceError,
    NonFiniteError,
    RangeError,
    ShapeError,
    Status,
)

__all__ = [
    "Array",
    "broadcast_shapes",
    "broadcasts_to",
    "by_strips",
    "compute_dtype",
    "default_block",
    "device_of",
    "differentiated",
    "differentiated_on_cpu",
    "dtype_name",
    "floating",
    "from_numpy",
    "generator",
    "is_complex",
    "namespace",
    "products_are_reduced",
    "real_or_complex",
    "recomputed",
    "require_finite",
    "require_held",
    "require_mask",
    "require_matrix",
    "status_tells",
    "strip_rows",
    "tile",
    "to_numpy",
    "traced",
    "uncounted",
    "unit_roundoff",
    "with_vjp",
    "worst_status",
]

Array: TypeAlias = Any
"""A NumPy, CuPy, Torch or strict array: anything that ``array_api_compat`` serves."""

Namespace: TypeAlias = Any

_ARRAY = "a NumPy, CuPy or Torch array"

P = ParamSpec("P")
R = TypeVar("R")

device_of = array_api_compat.device


def status_tells(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates what tells of overflow and NaN by a :class:`Status` or an error: NumPy need not warn as well."""

    @wraps(function)
    def quiet(*args: P.args, **options: P.kwargs) -> R:
        if args and array_api_compat.is_torch_array(args[0]):  # it does not warn, nor compile `errstate`
            return function(*args, **options)
        with np.errstate(over="ignore", invalid="ignore"):
            return function(*args, **options)

    return quiet


def namespace(**arrays: Array | None) -> Namespace:
    """The one array namespace of the named arguments (``None`` is passed over).

    Raises
    ------
    NamespaceError
        An argument is no array, is a masked array or an ``np.matrix`` (whose product is another one), or belongs
        to another library than the first; or all are ``None``.
    DeviceError
        An argument lies on another device than the first.
    """
    given = [(name, x) for name, x in arrays.items() if x is not None]
    for name, x in given:
        if not array_api_compat.is_array_api_obj(x) or isinstance(x, (np.ma.MaskedArray, np.matrix)):
            raise NamespaceError(name, f"a {type(x).__name__}", _ARRAY)
    if not given:
        raise NamespaceError(next(iter(arrays)), "None", _ARRAY)
    (first, x0), *rest = given
    xp = array_api_compat.array_namespace(x0)
    for name, x in rest:
        other = array_api_compat.array_namespace(x)
        if other is not xp:
            raise NamespaceError(name, f"of {other.__name__}", f"an array of {xp.__name__}, as `{first}` is")
        if device_of(x) != device_of(x0):
            raise DeviceError(name, f"on {device_of(x)}", f"device {device_of(x0)}, as `{first}` has")
    return xp


def floating(xp: Namespace, **arrays: Array) -> None:
    """Refuse dtypes other than 16, 32 and 64-bit real floating ones, and mixtures.

    Raises
    ------
    DTypeError, NamespaceError
        Naming the argument; the second for ``None``.
    """
    (first, x0), *_ = arrays.items()
    for name, x in arrays.items():
        if x is None:
            raise NamespaceError(name, "None", _ARRAY)
        if not xp.isdtype(x.dtype, "real floating") or xp.finfo(x.dtype).bits not in (16, 32, 64):
            raise DTypeError(name, f"of dtype {x.dtype}", "a real floating dtype of 16, 32 or 64 bits")
        if x.dtype != x0.dtype:
            raise DTypeError(name, f"of dtype {x.dtype}", f"{x0.dtype}, as `{first}` has")


def is_complex(xp: Namespace, x: Array) -> bool:
    """Whether the entries are complex floating numbers."""
    return bool(xp.isdtype(x.dtype, "complex floating"))


def real_or_complex(xp: Namespace, **arrays: Array) -> None:
    """As :func:`floating`, but complex dtypes of two 32 or 64-bit parts are let in: linear algebra serves them.

    Raises
    ------
    DTypeError, NamespaceError
        Naming the argument; the second for ``None``.
    """
    (first, x0), *_ = arrays.items()
    for name, x in arrays.items():
        if x is None:
            raise NamespaceError(name, "None", _ARRAY)
        kind = "complex floating" if xp.isdtype(x.dtype, "complex floating") else "real floating"
        allowed = (32, 64) if kind == "complex floating" else (16, 32, 64)
        if not xp.isdtype(x.dtype, kind) or xp.finfo(x.dtype).bits not in allowed:
            raise DTypeError(
                name,
                f"of dtype {x.dtype}",
                "a real floating dtype of 16, 32 or 64 bits, or a complex one of 64 or 128",
            )
        if x.dtype != x0.dtype:
            raise DTypeError(name, f"of dtype {x.dtype}", f"{x0.dtype}, as `{first}` has")


def require_matrix(name: str, x: Array) -> None:
    """Refuse arrays that are no (stack of) non-empty matrices.

    Raises
    ------
    ShapeError
        Fewer than two axes, or an empty one among the last two.
    """
    if x.ndim < 2 or 0 in x.shape[-2:]:
        raise ShapeError(name, f"of shape {tuple(x.shape)}", "shape (..., rows, columns), neither empty")


def require_finite(xp: Namespace, **arrays: Array) -> None:
    """Refuse NaN and infinity; one synchronisation an argument.

    Raises
    ------
    NonFiniteError
        Naming the argument and the number of its non-finite entries.
    """
    for name, x in arrays.items():
        bad = int(xp.count_nonzero(~xp.isfinite(x)))
        if bad:
            raise NonFiniteError(name, f"not finite in {bad} of {prod(x.shape)} entries", "finite entries")


def require_held(xp: Namespace, name: str, value: float, dtype: Any, *, divides: bool = False) -> float:
    """A number that is finite in ``dtype`` too and, where it ``divides``, no less than the least normal one there.

    Raises
    ------
    RangeError
    """
    kind = xp.finfo(dtype)
    least, most = float(kind.smallest_normal) if divides else 0.0, float(kind.max)
    if not least <= abs(value) <= most:
        low = f"at least {least:.3g} and " if divides else ""
        raise RangeError(name, f"{value:g}", f"{low}at most {most:.3g} in size, for {dtype_name(dtype)}")
    return value


def require_mask(xp: Namespace, name: str, mask: Array | None, shape: tuple[int, ...]) -> Array | None:
    """The mask broadcast to ``shape``; ``True`` marks a real token.

    Raises
    ------
    DTypeError, ShapeError
        It is not boolean, or does not broadcast to ``shape``.
    """
    if mask is None:
        return None
    if not xp.isdtype(mask.dtype, "bool"):
        raise DTypeError(name, f"of dtype {mask.dtype}", "a boolean mask, True for real tokens")
    if not broadcasts_to(tuple(mask.shape), shape):
        raise ShapeError(name, f"of shape {tuple(mask.shape)}", f"a shape that broadcasts to {shape}")
    return xp.broadcast_to(mask, shape)


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of that shape can be seen in another one; lengths that are traced stay so."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(own == there or own == 1 for own, there in pairs)


def broadcast_shapes(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape of leading (batch) axes.

    Raises
    ------
    ShapeError
        Naming the first argument whose batch does not fit those before it.
    """
    common: tuple[int, ...] = ()
    for name, shape in shapes.items():
        try:
            common = np.broadcast_shapes(common, shape)
        except ValueError:
            needs = f"leading axes that broadcast with {common}"
            raise ShapeError(name, f"of leading axes {shape}", needs) from None
    return common


def dtype_name(dtype: Any) -> str:
    """The plain name of a dtype of any library, such as ``"float32"`` or ``"bfloat16"``."""
    return str(getattr(dtype, "__name__", dtype)).rpartition(".")[2]


def compute_dtype(xp: Namespace, dtype: Any) -> Any:
    """The dtype to compute in: float32 for 16-bit storage, else the dtype itself."""
    return xp.float32 if xp.finfo(dtype).bits == 16 else dtype


def unit_roundoff(xp: Namespace, dtype: Any) -> float:
    """u, half the distance from 1 to the next number of ``dtype``."""
    return float(xp.finfo(dtype).eps) / 2


def default_block(length: int) -> int:
    """Rows to handle at once where an array of ``length`` rows is streamed."""
    return min(length, 1024)


def strip_rows(like: Array, width: int) -> int:
    """Rows to handle at once where each takes ``width`` entries: what a cache holds, more on a GPU."""
    return max(32, (2**18 if _on_host(like) else 2**25) // max(1, width))


def items_at_once(x: Array, size: int) -> int:
    """Items of x (items, ...) to handle at once, each with so many numbers: as many as a cache holds.

    A CPU so uses the same memory for one after the other; new pages cost it more than what it writes there.  On a GPU
    all of them.
    """
    if not _on_host(x):
        return int(x.shape[0])
    return max(1, 2**19 // max(1, size))


def tile(like: Array, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a stack of matrices to handle at once, ``like`` having the leading axes of the stack.

    On a CPU 1024 of each at most; on a GPU, where a launch costs more than an entry, as many as make 2²³ entries.
    """
    top, left = default_block(rows), default_block(columns)
    if _on_host(like):
        return top, left
    budget = 2**23 // max(1, prod(like.shape[:-2]))
    left = min(columns, max(left, budget // max(1, top)))
    return min(rows, max(top, budget // max(1, left))), left


def _on_host(like: Array) -> bool:
    name = str(
        device_of(like)
    ).lower()  # "cpu"; the strict library has "…Device('CPU_DEVICE')" and a second on the host
    return isinstance(like, np.ndarray) or "cpu" in name or "device1" in name


def still(x: Array) -> Array:
    """The array without its history: no derivative goes through it."""
    return x.detach() if array_api_compat.is_torch_array(x) else x


def generator(rng: np.random.Generator | int) -> tuple[np.random.Generator, int | None]:
    """The NumPy generator to draw from, and the seed to record (``None`` for a generator).

    Raises
    ------
    DTypeError
        ``rng`` is neither; a legacy ``RandomState`` included.
    RangeError
        A negative seed.
    """
    if isinstance(rng, np.random.Generator):
        return rng, None
    if isinstance(rng, bool) or not isinstance(rng, (int, np.integer)):
        raise DTypeError("rng", f"a {type(rng).__name__}", "a numpy.random.Generator or an int")
    if rng < 0:
        raise RangeError("rng", f"{rng}", "a seed of at least 0")
    return np.random.default_rng(int(rng)), int(rng)


def from_numpy(xp: Namespace, array: np.ndarray[Any, Any], like: Array) -> Array:
    """``array`` moved to the namespace and device of ``like``."""
    return xp.asarray(array, device=device_of(like))


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """A NumPy copy or view of ``x``, detached and brought to the host."""
    if array_api_compat.is_torch_array(x):
        x = x.detach().cpu().resolve_conj().resolve_neg()
        return np.asarray(x.float() if x.dtype.itemsize == 2 else x)
    if array_api_compat.is_cupy_array(x):
        return np.asarray(x.get())
    xp = array_api_compat.array_namespace(x)
    if xp.__name__ == "array_api_strict":
        x = array_api_compat.to_device(x, xp.Device("CPU_DEVICE"))
    return np.asarray(x)


def products_are_reduced(x: Array) -> bool:
    """Whether the library is set to multiply matrices of this dtype with fewer digits than it has (TF32 in Torch)."""
    if not array_api_compat.is_torch_array(x):
        return False
    import torch

    return x.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"


def worst_status(codes: Array) -> Status:
    """The worst of an array of status codes; one synchronisation."""
    host = to_numpy(codes)
    return Status(int(host.max())) if host.size else Status.CONVERGED


# ---------------------------------------------------------------- what only some libraries have


def with_vjp(
    forward: Callable[..., tuple[tuple[Array, ...], tuple[Array, ...]]],
    vjp: Callable[..., tuple[Array, ...]],
    *inputs: Array,
    fixed: Sequence[Array | None] = (),
) -> tuple[Array, ...]:
    """A function with a derivative of its own, where the library differentiates (Torch).

    ``forward(*inputs)`` gives its outputs, of which the first is differentiable, and what the derivative
    needs; ``vjp(cotangent, *saved)`` gives a cotangent for each input.  Nothing inside ``forward`` is recorded.
    ``fixed`` is what ``vjp`` reads besides, such as masks: where one has been changed in place by then, Torch refuses,
    as it does for what it saves itself.
    A second derivative is refused (:class:`~nystrom_numerics.errors.DerivativeError`), and a forward one by Torch.
    Where nothing asks for a derivative, ``forward`` is just called.
    """
    if not any(array_api_compat.is_torch_array(x) for x in inputs) or not _recorded(*inputs):
        return forward(*inputs)[0]
    from nystrom_numerics.torch_vjp import WithVjp

    held = tuple(x for x in fixed if x is not None)
    return tuple(WithVjp.apply(forward, vjp, held, *inputs))  # type: ignore[no-untyped-call]


def recomputed(function: Callable[..., Array], *inputs: Array, fixed: Sequence[Array | None] = ()) -> Array:
    """``function(*inputs)``, of which Torch keeps the inputs alone: its derivative runs it once more.

    The function gives the same each time; ``fixed`` is what it reads besides, as in :func:`with_vjp`.  A second
    derivative is refused.
    """

    def forward(*given: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        return (function(*given),), given

    def vjp(cotangent: Array, *given: Array) -> tuple[Array, ...]:
        from nystrom_numerics.torch_vjp import pulled_back

        return pulled_back(function, cotangent, given)

    return with_vjp(forward, vjp, *inputs, fixed=fixed)[0]


def traced(*inputs: Array) -> bool:
    """Whether Torch's compiler, its exporter or a transform of ``torch.func`` goes through what is done with these."""
    if not all(array_api_compat.is_torch_array(x) for x in inputs):
        return False
    import torch

    return bool(torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())


def uncounted(mask: Array) -> bool:
    """Whether nobody can count what is true: where ``vmap`` maps a mask, and where Torch's exporter has none yet."""
    if not array_api_compat.is_torch_array(mask):
        return False
    import torch

    return bool(torch.compiler.is_exporting() or torch._C._functorch.is_batchedtensor(mask))


def differentiated(*inputs: Array) -> bool:
    """Whether these are tensors of which Torch takes a derivative step by step, and in their own dtype.

    A compiler chooses what to keep, a transform of ``torch.func`` goes through what is done, and autocast, which
    computes in another dtype, is over when the derivative comes.
    """
    if not all(array_api_compat.is_torch_array(x) for x in inputs):
        return False
    import torch

    elsewhere = traced(*inputs) or any(torch.is_autocast_enabled(x.device.type) for x in inputs)
    return not elsewhere and torch.is_grad_enabled() and any(x.requires_grad for x in inputs)


def differentiated_on_cpu(*inputs: Array) -> bool:
    """:func:`differentiated`, on a CPU."""
    return differentiated(*inputs) and all(x.device.type == "cpu" for x in inputs)


Strip = tuple[slice, tuple[slice, ...]]
"""Rows of a result, and the rows of each array that they are made of."""


def by_strips(
    function: Callable[..., Array], strips: Sequence[Strip], rows: Sequence[Array], shared: Sequence[Array]
) -> Array:
    """``function(i, *rows of strip i, *shared)`` of every strip, one below the other along the axis before the last.

    Of what Torch takes a derivative of it keeps ``rows`` and ``shared`` alone, and a strip is run once more for its
    derivative: time and memory stay those of the strips, where a slice that is recorded costs a cotangent of the whole
    array each, and strips more than others the more there are.  A second derivative is refused then.
    """

    def run(i: int, given: Sequence[Array]) -> Array:
        pieces = [x[..., span, :] for x, span in zip(given, strips[i][1], strict=False)]
        return function(i, *pieces, *given[len(rows) :])

    def forward(*given: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        made = [run(i, given) for i in range(len(strips))]
        return (made[0] if len(made) == 1 else namespace(x=made[0]).concat(made, axis=-2),), given

    def vjp(cotangent: Array, *given: Array) -> tuple[Array, ...]:
        from nystrom_numerics.torch_vjp import pulled_back

        xp = namespace(x=cotangent)
        found = [xp.zeros_like(x) for x in given]
        for i, (of, spans) in enumerate(strips):
            pieces = [x[..., span, :] for x, span in zip(given, spans, strict=False)]
            parts = pulled_back(partial(function, i), cotangent[..., of, :], [*pieces, *given[len(rows) :]])
            for whole, part, span in zip(found, parts, [*spans, *[slice(None)] * len(shared)], strict=True):
                whole[..., span, :] += part
        return tuple(found)

    if differentiated(*rows, *shared):
        return with_vjp(forward, vjp, *rows, *shared)[0]
    return forward(*rows, *shared)[0][0]


def _recorded(*tensors: Array) -> bool:
    """Whether Torch takes a derivative of what is computed from the tensors, backward or forward."""
    import torch
    from torch.autograd.forward_ad import unpack_dual

    backward = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return backward or any(unpack_dual(x).tangent is not None for x in tensors)  # type: ignore[no-untyped-call]
