"""Image: a photograph of CIFAR-10 in grey, a pixel a token, and what it shows."""

from __future__ import annotations

import pickletools
from functools import lru_cache
from pathlib import Path

import numpy as np

from experiments.errors import UnfitInputError
from experiments.inputs.tasks.contract import Array, Examples, Splits, labelled_order
from experiments.inputs.tasks.folder import needed

__all__ = ["load"]

_ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar.html"
_GREY, _PICKLED, _BINARY = "cifar10_gray.npz", "cifar-10-batches-py", "cifar-10-batches-bin"
_SIDE, _PLANE, _BATCH = 32, 1024, 10_000
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_LUMA = (299, 587, 114)  # thousandths of red, green and blue, ITU-R BT.601
_KEYS = ("train_x", "train_y", "test_x", "test_y")


@lru_cache(maxsize=1)
def load(sizes: tuple[int, int, int], length: int) -> Splits:
    """Photographs in grey, row by row, the 256 shades being the tokens; 10 classes.

    ``length`` is 1,024, or 256 or 64 of means of 2 × 2 or 4 × 4 pixels.  Read from ``cifar10_gray.npz``,
    ``cifar-10-batches-py/`` or ``cifar-10-batches-bin/`` of the user's folder.  The test part is CIFAR-10's own.

    Raises
    ------
    NotAvailableError
        The folder has none of these.
    UnfitInputError
        A file is not what its name says, or has fewer images than are asked for.
    """
    path = needed("CIFAR-10", _ORIGIN, _GREY, _PICKLED, _BINARY)
    read, told = {
        _GREY: (
            _npz,
            "made grey elsewhere, from JPEG copies if it is the project's own file, so slightly lossy",
        ),
        _PICKLED: (_folder, "made grey here"),
        _BINARY: (_folder, "made grey here"),
    }[path.name]
    (x, y), (tested, answers) = read(path)
    order = labelled_order(len(x))[: sizes[0] + sizes[1]]
    if len(order) < sizes[0] + sizes[1] or len(tested) < sizes[2]:
        raise UnfitInputError(
            f"{path} has {len(x)} images to train on and {len(tested)} to test on, {sizes} are asked"
        )
    train = _examples(x[order], y[order], length)
    test = _examples(tested[: sizes[2]], answers[: sizes[2]], length)
    source = f"CIFAR-10 (Krizhevsky 2009), {told}"
    return Splits(train[: sizes[0]], train[sizes[0] :], test, 257, 10, source)


def _examples(x: Array, y: Array, length: int) -> Examples:
    step = round((_PLANE / length) ** 0.5)
    if step * step * length != _PLANE or _SIDE % step:
        raise UnfitInputError(f"an image has 1,024, 256 or 64 tokens, not {length}")
    side = _SIDE // step
    small = x.reshape(-1, side, step, side, step).mean(axis=(2, 4)).round()
    ids = small.reshape(len(x), 1, length).astype(np.int32) + 1
    return Examples(ids, np.full((len(x), 1), length), y.astype(np.int64))


def _npz(path: Path) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    with np.load(path, allow_pickle=False) as kept:
        missing = [key for key in _KEYS if key not in kept]
        if missing:
            raise UnfitInputError(f"{path} has no {missing[0]}")
        x, y, tested, answers = (kept[key] for key in _KEYS)
    return (x, y), (tested, answers)


def _folder(path: Path) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    read, end = (_pickled, "") if path.name == _PICKLED else (_binary, ".bin")
    batches = [read(path / f"{name}{end}") for name in _TRAIN if (path / f"{name}{end}").exists()]
    if not batches or not (path / f"test_batch{end}").exists():
        raise UnfitInputError(f"{path} lacks data_batch_1{end} or test_batch{end}")
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return (x, y), read(path / f"test_batch{end}")


def _grey(planes: Array) -> Array:
    """Shades (count, 32, 32) of colours (count, 3 · 1024)."""
    colours = planes.reshape(-1, 3, _SIDE, _SIDE).astype(np.int64)
    return np.rint(np.tensordot(colours, np.array(_LUMA), axes=((1,), (0,))) / 1000).astype(np.uint8)


def _binary(path: Path) -> tuple[Array, Array]:
    """A record is a label and three planes."""
    raw = np.fromfile(path, np.uint8)
    if raw.size == 0 or raw.size % (1 + 3 * _PLANE):
        raise UnfitInputError(f"{path} is no file of images of 3,073 bytes each")
    records = raw.reshape(-1, 1 + 3 * _PLANE)
    return _grey(records[:, 1:]), records[:, 0]


def _pickled(path: Path) -> tuple[Array, Array]:
    """Images and labels of a pickled batch, whose instructions are read and none of them is carried out.

    The planes are the longest string in it, and the labels the numbers of the list after the string "labels".
    """
    planes, labels, listing = b"", [], False
    try:
        for operation, argument, _ in pickletools.genops(path.read_bytes()):
            if isinstance(argument, (str, bytes)):
                text = argument.encode("latin-1", "replace") if isinstance(argument, str) else argument
                planes, listing = max(planes, text, key=len), text == b"labels"
            elif listing and "BININT" in operation.name:
                labels.append(int(argument))
    except ValueError as error:
        raise UnfitInputError(f"{path} is no pickle: {error}") from error
    if not labels or len(planes) != 3 * _PLANE * len(labels):
        raise UnfitInputError(f"{path} is no batch of CIFAR-10: {len(planes)} bytes and {len(labels)} labels")
    return _grey(np.frombuffer(planes, np.uint8)), np.array(labels)
