"""A model whose task reads its attention: RXNMapper, which finds the atoms of a product among those of its precursors.

Reactions with a known answer come from the package's own documentation, and from templates of organic chemistry
applied to building blocks, where the answer is known by construction.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import distribution
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np

from experiments.errors import UnfitInputError
from experiments.inputs import packages
from experiments.inputs.bert import Heads
from nystrom_numerics.attention import ESTIMATORS

__all__ = [
    "EXACT",
    "Mapping",
    "Reaction",
    "captured",
    "documented",
    "longest",
    "mapped",
    "rxnmapper",
    "written",
]

EXACT = "exact"
_FOLDER = ("models", "transformers", "albert_heads_8_uspto_all_1310k")
_LAYER, _HEAD = 10, 5  # counted from 0: the head that the package reads
_NAME = "reactions"  # under which transformers knows the attention that is put in


@lru_cache(maxsize=1)
def rxnmapper() -> tuple[Any, dict[str, int]]:
    """The model of the package ``rxnmapper``, an ALBERT of 12 layers and 8 heads of 32, and its words."""
    folder = packages.RXNMAPPER.path(*_FOLDER)
    packages.needs_models()
    from transformers import AlbertModel
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # it has the weights of a head for masked words, of which no use is made
    logging.disable_progress_bar()
    try:
        model = AlbertModel.from_pretrained(folder, attn_implementation="eager", local_files_only=True).eval()
    finally:
        logging.set_verbosity(before)
    words = (folder / "vocab.txt").read_text("utf-8").splitlines()
    return model, {word: i for i, word in enumerate(words)}


@cache
def _part(name: str) -> Any:
    """A module of the package, without what the package does on import: that asks for what is no longer there."""
    folder = packages.RXNMAPPER.path()
    packages.needs_chemistry()
    parts = sys.modules.setdefault("_parts_of_rxnmapper", ModuleType("_parts_of_rxnmapper"))
    parts.__path__ = [str(folder)]
    return importlib.import_module(f"_parts_of_rxnmapper.{name}")


# ---------------------------------------------------------------- reactions


@dataclass(frozen=True)
class Reaction:
    """A reaction as the model reads it, and the atom of the precursors that each of the product's is.

    ``expected`` counts atoms in the order of the text, −1 where nothing is said; ``alike`` gives to every atom of the
    precursors the number of those that no renumbering tells from it.
    """

    source: str
    text: str
    expected: tuple[int, ...]
    alike: tuple[int, ...]

    @classmethod
    def of(cls, source: str, numbered: str) -> Reaction:
        """From reaction SMILES whose atoms have numbers, the same on both sides."""
        from rdkit import Chem

        before, after = (sorted(map(_in_order, side.split("."))) for side in numbered.split(">>"))
        precursors, found = ".".join(text for text, _ in before), ".".join(text for text, _ in after)
        places = {number: i for i, number in enumerate(_all(before)) if number}
        ranks = Chem.CanonicalRankAtoms(Chem.MolFromSmiles(precursors), breakTies=False)
        expected = tuple(places.get(number, -1) for number in _all(after))
        return cls(source, f"{precursors}>>{found}", expected, tuple(map(int, ranks)))

    def right(self, mapping: tuple[int, ...]) -> int:
        """Atoms of the product that are mapped to the one expected, or to one that is like it."""
        pairs = zip(mapping, self.expected, strict=True)
        return sum(a >= 0 and b >= 0 and self.alike[a] == self.alike[b] for a, b in pairs)

    @property
    def told(self) -> int:
        """Atoms of the product of which the answer is known."""
        return sum(b >= 0 for b in self.expected)


def _in_order(numbered: str) -> tuple[str, tuple[int, ...]]:
    """Canonical SMILES of a molecule without numbers, and the numbers of its atoms as they stand there."""
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(numbered)
    if molecule is None:
        raise UnfitInputError(f"no molecule: {numbered}")
    numbers = [atom.GetAtomMapNum() for atom in molecule.GetAtoms()]
    for atom in molecule.GetAtoms():
        atom.SetAtomMapNum(0)
    text = Chem.MolToSmiles(molecule)
    order = molecule.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]
    return text, tuple(numbers[i] for i in order)


def _all(molecules: list[tuple[str, tuple[int, ...]]]) -> list[int]:
    return [number for _, numbers in molecules for number in numbers]


def documented() -> tuple[Reaction, ...]:
    """The reactions that the package's documentation maps."""
    packages.RXNMAPPER.path()
    packages.needs_chemistry()
    # as it lies on disk: where the backport `importlib_metadata` is imported too, a parsed message has no payload
    text = distribution("rxnmapper").read_text("METADATA") or ""
    return tuple(Reaction.of("documentation", x) for x in re.findall(r"'mapped_rxn': '([^']+)'", text))


_BLOCKS = {
    "acid": (
        *("OC(=O)c1ccc(Cl)cc1", "OC(=O)CCc1ccccc1", "OC(=O)C1CCN(C(=O)OC(C)(C)C)CC1", "OC(=O)c1cnc2ccccc2c1"),
        *("OC(=O)Cc1c[nH]c2ccc(OC)cc12", "OC(=O)c1csc(-c2ccccc2)n1"),
    ),
    "amine": (
        *("NCc1ccc(F)cc1", "C1CCNCC1", "C1CN(c2ccccn2)CCN1", "NCCc1c[nH]c2ccccc12", "COC(=O)C1CCCN1"),
        *("Nc1ccc(OC)c(OC)c1", "NC1CCCCC1"),
    ),
    "bromide": ("Brc1ccc(C#N)cc1", "COc1ccc(Br)cn1", "Brc1cc2ccccc2s1", "CC(=O)Nc1ccc(Br)cc1"),
    "boronic acid": ("OB(O)c1ccc(OC)cc1", "OB(O)c1cccnc1", "OB(O)c1ccc(C(F)(F)F)cc1", "OB(O)c1ccc2OCOc2c1"),
    "phenol": ("Oc1ccc(C(C)=O)cc1", "COC(=O)c1ccccc1O", "Oc1ccc2ncccc2c1"),
    "alkyl bromide": ("BrCc1ccccc1", "CCOC(=O)CBr", "BrCCN1C(=O)c2ccccc2C1=O", "BrCC1CC1"),
    "sulfonyl chloride": ("Cc1ccc(S(=O)(=O)Cl)cc1", "CS(=O)(=O)Cl", "O=S(=O)(Cl)c1cccs1"),
    "aldehyde": ("O=Cc1ccc(Cl)cc1", "O=Cc1ccc2OCOc2c1", "O=CC1CCN(C(=O)OC(C)(C)C)CC1"),
}
_FREE = "[N;H1,H2;!$(N-[C,S]=O);!$(N=*):3]"
_TEMPLATES: dict[str, tuple[str, tuple[str, str], str]] = {
    "amide": (
        f"[C:1](=[O:2])[OH].{_FREE}>>[C:1](=[O:2])[N:3]",
        ("acid", "amine"),
        "CCN(C(C)C)C(C)C.CN(C)C=O.On1nnc2ccccc21",
    ),
    "Suzuki": (
        "[c:1][Br].[c:2]B(O)O>>[c:1][c:2]",
        ("bromide", "boronic acid"),
        "C1COCCO1.O.O=C([O-])[O-].[Na+].[Na+]",
    ),
    "ether": (
        "[c:1][OH:2].[CH2:3][Br]>>[c:1][O:2][CH2:3]",
        ("phenol", "alkyl bromide"),
        "CC(C)=O.O=C([O-])[O-].[K+].[K+]",
    ),
    "sulfonamide": (
        f"[S:1](=[O:4])(=[O:5])Cl.{_FREE}>>[S:1](=[O:4])(=[O:5])[N:3]",
        ("sulfonyl chloride", "amine"),
        "ClCCl.c1ccncc1",
    ),
    "reductive amination": (
        f"[CH1:1](=O)[#6:2].{_FREE}>>[CH2:1]([#6:2])[N:3]",
        ("aldehyde", "amine"),
        "CC(=O)O[BH-](OC(C)=O)OC(C)=O.ClCCl.[Na+]",
    ),
}
"""What reacts, by SMARTS; of which two building blocks; and what stands beside them."""


@lru_cache(maxsize=1)
def written() -> tuple[Reaction, ...]:
    """The products of every template and pair of its building blocks, where there is but one."""
    packages.needs_chemistry()
    return tuple(
        Reaction.of(name, numbered)
        for name, (template, (one, other), beside) in _TEMPLATES.items()
        for pair in product(_BLOCKS[one], _BLOCKS[other])
        for numbered in _carried_out(template, pair, beside)
    )


def _carried_out(template: str, pair: tuple[str, str], beside: str) -> Iterator[str]:
    """A reaction with numbers at the atoms that are in the product too; none where the template fits in two ways."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecules = [Chem.MolFromSmiles(text) for text in pair]
    products = {}
    for (made,) in AllChem.ReactionFromSmarts(template).RunReactants(molecules):
        Chem.SanitizeMol(made)
        products[Chem.MolToSmiles(made)] = made
    if len(products) != 1:
        return
    (made,) = products.values()
    first = molecules[0].GetNumAtoms()
    for atom in made.GetAtoms():
        number = 1 + atom.GetIntProp("react_idx") * first + atom.GetIntProp("react_atom_idx")
        atom.SetAtomMapNum(number)
    for i, molecule in enumerate(molecules):
        for atom in molecule.GetAtoms():
            atom.SetAtomMapNum(1 + i * first + atom.GetIdx())
    before = ".".join([*map(Chem.MolToSmiles, molecules), beside])
    yield f"{before}>>{Chem.MolToSmiles(made)}"


# ---------------------------------------------------------------- what the model makes of them


@dataclass(frozen=True)
class Mapping:
    """Of each atom of the product the atom of the precursors, the package's confidence, tokens and kernel entries."""

    atoms: tuple[int, ...]
    confidence: float
    tokens: int
    entries: float


def mapped(reaction: Reaction, estimator: str = EXACT, m: int = 1) -> Mapping:
    """Map a reaction with the attention of every layer by an estimator; what is read are rows of its operator."""
    import torch

    model, words = rxnmapper()
    tokens = ["[CLS]", *_part("smiles_utils").tokenize(reaction.text), "[SEP]"]
    n = len(tokens)
    name = EXACT if m >= n else estimator
    read: list[Any] = []
    entries = 0

    def attend(q: Any, k: Any, v: Any, scale: float) -> Any:
        nonlocal entries
        operator = ESTIMATORS[name].make(q, k, m, scale=scale)
        entries = operator.entries
        read.append(operator.rows(range(n))[0, _HEAD].numpy() if len(read) == _LAYER else None)
        return operator.apply(v)

    _put_in(model, attend)
    with torch.inference_mode():
        model(torch.tensor([[words[token] for token in tokens]]))
    scorer = _part("attention").AttentionScorer(reaction.text, tokens, np.asarray(read[_LAYER]))
    told = scorer.generate_attention_guided_pxr_atom_mapping()
    atoms = tuple(int(i) for i in told["pxr_mapping_vector"])
    return Mapping(atoms, float(np.prod(told["confidences"])), n, entries / n**2)


def longest() -> dict[str, Any]:
    """What the model is called with for the longest of the reactions that are written."""
    import torch

    _, words = rxnmapper()
    texts = [["[CLS]", *_part("smiles_utils").tokenize(x.text), "[SEP]"] for x in written()]
    return {"input_ids": torch.tensor([[words[token] for token in max(texts, key=len)]])}


def captured(layers: Sequence[int]) -> Heads:
    """Queries, keys and values (layers, 8, n, 32) of some layers on :func:`longest`, under exact attention."""
    import torch

    found: list[tuple[np.ndarray, ...]] = []

    def keeping(q: Any, k: Any, v: Any, scale: float) -> Any:
        found.append(tuple(x[0].numpy().copy() for x in (q, k, v)))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)

    model, _ = rxnmapper()
    _put_in(model, keeping)
    with torch.inference_mode():
        model(**longest())
    q, k, v = (np.stack([found[layer][role] for layer in layers]) for role in range(3))
    return Heads(q, k, v, q.shape[-1] ** -0.5, f"RXNMapper ({packages.RXNMAPPER.name}), its longest reaction")


def _put_in(model: Any, attend: Callable[[Any, Any, Any, float], Any]) -> None:
    """Replace the attention of every layer, for one text without padding."""
    from transformers import AttentionInterface, AttentionMaskInterface

    def called(
        _module: Any, q: Any, k: Any, v: Any, _mask: Any, scaling: float, **_asked: Any
    ) -> tuple[Any, None]:
        return attend(q, k, v, scaling).transpose(1, 2), None

    AttentionInterface.register(_NAME, called)
    AttentionMaskInterface.register(_NAME, lambda **_asked: None)
    model.set_attn_implementation(_NAME)
