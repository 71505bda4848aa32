"""What the factors ask of their arguments."""

from __future__ import annotations

from collections.abc import Callable

from nystrom_numerics.arguments import require_callable
from nystrom_numerics.backend import Array, floating, namespace
from nystrom_numerics.errors import ShapeError

__all__ = ["checked_operator", "require_rows"]


def require_rows(name: str, x: Array, n: int, **own: Array) -> None:
    """Real floating (n,) or (n, c), of the library and device of the object's ``own`` array.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, ShapeError
        Naming the argument.
    """
    floating(namespace(**own, **{name: x}), **{name: x})
    if x.ndim not in (1, 2) or x.shape[0] != n:
        raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape ({n},) or ({n}, columns)")


def checked_operator(
    name: str, apply: Callable[[Array], Array], rows: int | None = None
) -> Callable[[Array], Array]:
    """An operator of the caller's, v (p, c) to (rows, c), its products checked; ``rows`` None leaves them open.

    A product of another shape would be broadcast without a word.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, ShapeError
        Naming ``name``: now what is not callable, and what a product turns out to be.
    """
    require_callable(name, apply)

    def checked(v: Array) -> Array:
        found = apply(v)
        floating(namespace(v=v, **{name: found}), **{name: found})
        shape = (found.shape[0] if rows is None and found.ndim else rows, v.shape[1])
        if tuple(found.shape) != shape:
            needs = f"shape ({'rows' if rows is None else rows}, {v.shape[1]}) for v {tuple(v.shape)}"
            raise ShapeError(name, f"an operator that gave shape {tuple(found.shape)}", needs)
        return found

    return checked
