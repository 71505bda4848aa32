"""Tasks: labels are what they say, parts share nothing, and the user's own files are read as they are."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

from experiments.errors import NotAvailableError, UnfitInputError
from experiments.tasks import image, listops, pathfinder, retrieval, sst2


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NYSTROM_DATA", str(tmp_path))
    for module in (image, listops, pathfinder, retrieval):
        module.load.cache_clear()
    yield tmp_path
    for module in (image, listops, pathfinder, retrieval):
        module.load.cache_clear()


def value_of(text):
    """The value of an expression in the usual notation, by substitution from the inside."""
    inner = re.compile(r"\[(MIN|MAX|MED|SM)((?: \d)+) \]")
    rules = {"MIN": min, "MAX": max, "MED": lambda v: int(np.median(v)), "SM": lambda v: sum(v) % 10}
    while found := inner.search(text):
        value = rules[found[1]]([int(x) for x in found[2].split()])
        text = f"{text[: found.start()]}{value}{text[found.end() :]}"
    return int(text)


def test_listops_labels_are_the_values_of_their_expressions():
    data = listops.load((12, 4, 4), 512)
    for part in (data.train, data.validation, data.test):
        assert ((part.lengths >= 128) & (part.lengths <= 512)).all()
        for (ids,), (length,), label in zip(part.ids, part.lengths, part.labels, strict=True):
            assert not ids[length:].any()
            assert value_of(listops.spell(ids[:length])) == label


@pytest.mark.parametrize("difficulty", pathfinder.CONTOUR)
def test_pathfinder_is_balanced_and_seeded(difficulty):
    pathfinder.load.cache_clear()
    one = pathfinder.load((6, 2, 2), difficulty=difficulty)
    pathfinder.load.cache_clear()
    again = pathfinder.load((6, 2, 2), difficulty=difficulty)
    labels = np.concatenate([one.train.labels, one.validation.labels, one.test.labels])
    assert labels.sum() == 5
    np.testing.assert_array_equal(one.train.ids, again.train.ids)
    assert one.train.ids.shape == (6, 1, 1024)
    assert (one.train.ids == 256).any(axis=-1).all()  # a marker is white


def test_a_label_of_pathfinder_moves_one_mark_and_nothing_else():
    of = [pathfinder.draw(6, label, np.random.default_rng(3)).astype(int) for label in (0, 1)]
    apart = np.abs(of[0] - of[1]) > 0
    assert 0 < apart.sum() <= 2 * 5**2  # two discs of radius 1.5 with soft edges


def test_pathfinder_is_shown():
    assert len(pathfinder.show().axes) == 12


def test_cifar_in_its_own_formats(folder):
    """Colours in a pickle, which is read and not carried out, and in a binary file are the same shades."""
    rng = np.random.default_rng(0)
    colours, labels = rng.integers(0, 256, (6, 3072), np.uint8), [3, 1, 4, 1, 5, 9]
    of_pickle, of_binary = folder / "cifar-10-batches-py", folder / "cifar-10-batches-bin"
    of_pickle.mkdir()
    of_binary.mkdir()
    for name in ("data_batch_1", "test_batch"):
        batch = {b"labels": labels, b"data": colours.tobytes(), b"names": [b"a"]}
        (of_pickle / name).write_bytes(pickle.dumps(batch, protocol=4))
        records = np.concatenate([np.array(labels, np.uint8)[:, None], colours], axis=1)
        (of_binary / f"{name}.bin").write_bytes(records.tobytes())
    (x, y), _ = image._folder(of_pickle)
    (grey, also), _ = image._folder(of_binary)
    np.testing.assert_array_equal(x, grey)
    np.testing.assert_array_equal(y, labels)
    np.testing.assert_array_equal(also, labels)
    expected = colours.reshape(6, 3, 32, 32)[:, 1] * 0.587
    assert (grey >= np.floor(expected)).all()


def test_a_pickle_is_not_carried_out(folder):
    class Trap:
        def __reduce__(self):
            return (folder.joinpath("sprung").touch, ())

    path = folder / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Trap(), b"labels": [1]}))
    with pytest.raises(UnfitInputError, match="no batch of CIFAR-10"):
        image._pickled(path)
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize(
    ("read", "origin"),
    [(lambda: image.load((1, 1, 1), 1024), "cs.toronto.edu"), (lambda: sst2.texts((1, 1, 1)), "glue")],
)
def test_what_is_missing_is_told_with_its_origin(folder, read, origin):
    with pytest.raises(NotAvailableError, match=rf"{origin}.*NYSTROM_DATA"):
        read()


def test_sst2_in_both_forms(folder):
    (folder / "SST-2").mkdir()
    for name, words in (("train", "abcd"), ("dev", "xy")):
        lines = "".join(f"{word} \t{i % 2}\n" for i, word in enumerate(words))
        (folder / "SST-2" / f"{name}.tsv").write_text(f"sentence\tlabel\n{lines}")
    (folder / "SST-2" / "test.tsv").write_text("index\tsentence\n0\tz\n")
    data = sst2.texts((3, 1, 2))
    assert [text for text, _ in data.test] == ["x", "y"]
    assert sorted(text for text, _ in (*data.train, *data.validation)) == list("abcd")
    (folder / "SST-2" / "test.tsv").write_text("sentence\tlabel\nq\t1\n")
    data = sst2.texts((4, 2, 1))
    assert (data.test, [text for text, _ in data.validation]) == ([("q", 1)], ["x", "y"])


def test_retrieval_of_the_arena(folder):
    (folder / "tsv_data").mkdir()
    for name in retrieval._FILES:
        (folder / "tsv_data" / name).write_text("1.0\ta\tb\tone text\tanother\n")
    data = retrieval.load((1, 1, 1), 16)
    assert data.train.lengths.tolist() == [[8, 7]]
    assert data.train.labels.tolist() == [1]
    assert "surrogate" not in data.source
