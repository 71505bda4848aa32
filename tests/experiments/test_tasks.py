"""Tasks: labels are what they say, parts share nothing, and the user's own files are read as they are."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

from experiments.errors import NotAvailableError, UnfitInputError
from experiments.inputs.tasks import image, imdb, listops, pathfinder, retrieval, sst2


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("NYSTROM_DATA", str(tmp_path))
    kept = [module.load for module in (image, listops, pathfinder, retrieval)]
    kept += [imdb.words, imdb.octets, imdb._reviews]
    for load in kept:
        load.cache_clear()
    yield tmp_path
    for load in kept:
        load.cache_clear()


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


def test_listops_of_the_arena(folder):
    (folder / "listops").mkdir()
    line = "( ( ( [MAX 3 ) ( ( ( [SM 4 ) 9 ) ] ) ) ] )"
    for name in listops._FILES:
        (folder / "listops" / name).write_text(f"Source\tTarget\n{line}\t3\n")
    data = listops.load((1, 1, 1), 2000)
    assert listops.spell(data.test.ids[0, 0]) == "[MAX 3 [SM 4 9 ] ]"
    assert value_of(listops.spell(data.test.ids[0, 0])) == data.test.labels[0] == 3
    assert data.source == "ListOps, the arena's files"
    assert listops.load((1, 1, 1), 64).source != data.source  # shorter than they are: drawn


def test_imdb_of_its_own_folder(folder):
    for part in ("train", "test"):
        for label in ("neg", "pos"):
            (folder / "aclImdb" / part / label).mkdir(parents=True)
            (folder / "aclImdb" / part / label / "0_1.txt").write_text(f"{label}<br />{part}", "utf-8")
    data = imdb.texts((2, 1, 1))
    found = {text: label for part in (data.train, data.validation, data.test) for text, label in part}
    assert found == {"neg train": 0, "pos train": 1, "neg test": 0, "pos test": 1}
    assert data.source == "IMDB reviews (Maas et al. 2011)"
    as_bytes = imdb.octets((2, 1, 1), 5)
    assert bytes(as_bytes.test.ids[0, 0].astype(np.uint8) - 1).decode() in ("neg t", "pos t")
    assert imdb.words((2, 1, 1), 5).test.lengths.tolist() == [[2]]


def test_pathfinder_of_the_arena(folder):
    from PIL import Image

    own = folder / "pathfinder32" / "curv_contour_length_9"
    (own / "metadata").mkdir(parents=True)
    (own / "imgs" / "0").mkdir(parents=True)
    for i, shade in enumerate((0, 255, 51)):
        Image.fromarray(np.full((32, 32), shade, np.uint8)).save(own / "imgs" / "0" / f"sample_{i}.png")
    lines = "".join(f"imgs/0 sample_{i}.png {i} {i % 2} 1.8 9\n" for i in range(3))
    (own / "metadata" / "0.npy").write_text(lines)
    data = pathfinder.load((1, 1, 1), difficulty="intermediate")
    parts = (data.train, data.validation, data.test)
    assert data.train.ids.shape == (1, 1, 1024)
    assert {(int(part.ids[0, 0, 0]), int(part.labels[0])) for part in parts} == {(1, 0), (256, 1), (52, 0)}
    Image.fromarray(np.zeros((8, 32), np.uint8)).save(own / "imgs" / "0" / "sample_0.png")
    pathfinder.load.cache_clear()
    with pytest.raises(UnfitInputError, match=r"sample_0.png .*\(8, 32\)"):
        pathfinder.load((1, 1, 1), difficulty="intermediate")
