"""Optional parts of the package: the modules that each needs, and the extra that brings them.

NumPy, SciPy and the array-API shims are always there; whatever else a part needs is named here, as an extra of
``setup.py``, so that a part that is asked for without it says which line installs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from nystrom_numerics.errors import NotInstalledError

__all__ = ["EXTRAS", "brought_by"]

EXTRAS: dict[str, tuple[str, ...]] = {
    "torch": ("torch",),
    "sklearn": ("sklearn",),
    "dask": ("dask", "distributed", "pandas", "sklearn"),
    "models": ("torch", "transformers", "tokenizers", "safetensors", "einops"),
    "onnx": ("torch", "onnxscript"),
    "frames": ("pandas",),
    "plots": ("matplotlib",),
    "cli": ("jinja2", "matplotlib", "rich", "typer"),
}
"""Modules, by the extra of ``setup.py`` that brings them."""


@contextmanager
def brought_by(extra: str, *modules: str) -> Iterator[None]:
    """Imports of what ``extra`` brings, refused where it is not installed.

    Parameters
    ----------
    extra : str
        A name of :data:`EXTRAS`.
    *modules : str
        Which of its modules; by default all.

    Raises
    ------
    NotInstalledError
        The first module that is not here, and the extra.
    """
    for module in modules or EXTRAS[extra]:
        if find_spec(module) is None:
            raise NotInstalledError(module, extra)
    yield
