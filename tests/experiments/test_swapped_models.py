"""The claims on models before and after a swap: RXNMapper's atoms, each head beside its own attention, tolerances."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import claims
from experiments.contract import Case, Outcome, Record
from experiments.inputs import models, packages, reactions

SUPPORTED, REFUTED, UNDECIDED = Outcome.SUPPORTED, Outcome.REFUTED, Outcome.UNDECIDED
WANTED = {"rxnmapper": packages.RXNMAPPER.remedy, "rdkit": "rdkit", "rxn": "rxn-chem-utils"}
ABSENT = [remedy for module, remedy in WANTED.items() if importlib.util.find_spec(module) is None]
needs_rxnmapper = pytest.mark.skipif(bool(ABSENT), reason=", ".join(ABSENT))


@pytest.fixture(scope="module", params=["atom_mapping", "swapped_models", "chosen_budgets"])
def any_claim(request):
    return claims.load(request.param)


def test_without_records_nothing_is_decided(any_claim):
    assert [verdict.outcome for verdict in any_claim.verdicts([])] == [UNDECIDED]


# ---------------------------------------------------------------- reactions


@needs_rxnmapper
def test_atoms_are_counted_as_they_stand_in_the_text():
    """Ethanol by its oxygen to an ether; the acid's two oxygens are told apart, its methyls are not."""
    ether = reactions.Reaction.of("made", "[OH:7][CH2:2][CH3:1].Br[CH3:9]>>[CH3:1][CH2:2][O:7][CH3:9]")
    assert ether.text == "CBr.CCO>>CCOC"
    assert ether.expected == (2, 3, 4, 0)
    assert ether.told == ether.right((2, 3, 4, 0)) == 4
    assert ether.right((0, 3, 4, 2)) == 2
    assert ether.right((-1, -1, -1, -1)) == 0
    made = reactions.Reaction.of("made", "[CH3:1][CH:2]([CH3:3])[OH:4]>>[CH3:1][C:2]([CH3:3])=[O:4]")
    assert made.right(made.expected) == 4
    methyls = [i for i, like in enumerate(made.alike) if made.alike.count(like) == 2]
    swapped = tuple(methyls[1 - methyls.index(i)] if i in methyls else i for i in made.expected)
    assert swapped != made.expected
    assert made.right(swapped) == 4
    unknown = reactions.Reaction.of("made", "[CH4:1].O>>[CH3:1]O")
    assert unknown.told == unknown.right((0, 1)) == 1


@needs_rxnmapper
def test_what_templates_write():
    """Every atom of a product is one of its precursors', of the same element, and no two are the same."""
    from rdkit import Chem

    written = reactions.written()
    assert len(written) == len({x.text for x in written}) > 100
    assert len({x.source for x in written}) == 5
    for one in written[::7]:
        before, after = (
            [atom.GetSymbol() for atom in Chem.MolFromSmiles(side).GetAtoms()]
            for side in one.text.split(">>")
        )
        assert [before[i] for i in one.expected] == after
        assert len(set(one.expected)) == len(after)


@needs_rxnmapper
def test_the_documentation_is_mapped_as_it_says_and_rows_of_operators_are_what_is_read():
    """Confidences are as printed there, to what float32 leaves of them; more landmarks than tokens are exact."""
    first, second = reactions.documented()
    exact = reactions.mapped(first)
    assert first.right(exact.atoms) == first.told == 11
    assert exact.confidence == pytest.approx(0.9565619900376546, abs=1e-5)
    assert reactions.mapped(first, "tangent", 500) == exact
    near, far = (reactions.mapped(second, name, 16) for name in ("tangent", "paper"))
    assert second.right(near.atoms) == second.told == 20 > second.right(far.atoms)
    assert near.entries < 0.4
    assert near.confidence != far.confidence


def mapping(name, m, right, sources=("documentation", "amide")):
    rows = [
        {"source": s, "atoms": 100, "right": r, "confidence": 0.5, "tokens": 80, "entries": 0.4}
        for s, r in zip(sources, right, strict=True)
    ]
    return Record(Case("atom_mapping", {"estimator": name, "m": m, "step": 1}), tuple(rows), None, 0.0, {})


def test_atoms_are_judged_by_those_of_exact_attention():
    claim = claims.load("atom_mapping")
    exact = mapping("exact", 0, (100, 80))
    documented, kept, lost = claim.verdicts(
        [exact, mapping("tangent", 8, (100, 79)), mapping("paper", 16, (90, 80))]
    )[0:3]
    assert documented.outcome is SUPPORTED
    by_name = {v.statement.split(",")[0]: v for v in (kept, lost)}
    assert by_name["tangents"].outcome is SUPPORTED
    assert by_name["paper's form"].outcome is REFUTED
    assert "170 of 200 atoms right (85.0%" in by_name["paper's form"].because
    (of_documentation, alone) = claim.verdicts([mapping("tangent", 8, (100, 79))])
    assert of_documentation.outcome is alone.outcome is UNDECIDED
    assert claim.verdicts([mapping("exact", 0, (99, 80))])[0].outcome is REFUTED


# ---------------------------------------------------------------- heads and budgets


def test_the_budget_of_as_many_entries():
    claim = claims.load("swapped_models")
    for name, n, share in (("tangent", 300, 0.3), ("causal", 600, 0.6)):
        m = claim.same_entries(name, n, share)
        assert claim._share(name, n, m) <= share < claim._share(name, n, m + 8)


def swapped(part, model, rows):
    return Record(Case("swapped_models", {"part": part, "input": model}), tuple(rows), None, 0.0, {})


def test_heads_and_drifts_are_judged():
    claim = claims.load("swapped_models")
    heads = [
        {
            "layer": f"l{i % 2}",
            "head": i // 2,
            "tokens": 512,
            "estimator": "tangent",
            "m": 64,
            "entries": 0.25,
        }
        | {"error": error, "lower": 0.0, "upper": 1.0, "best": 0.1, "drift": 0.07}
        for i, error in enumerate((0.01, 0.02, 0.3, 0.4))
    ]
    drifts = [
        {"way": way, "text": text, "m": 115, "entries": 0.45, "drift": drift, "exact": 7}
        for way, pair in ((claim.CALIBRATED, (0.02, 0.03)), (claim.UNIFORM, (0.04, 0.05)))
        for text, drift in zip(("as calibrated", "another"), pair, strict=True)
    ]
    near, better = claim.verdicts([swapped("heads", "MiniLM", heads), swapped("drift", "MiniLM", drifts)])
    assert near.outcome is better.outcome is SUPPORTED
    assert "2 of 4 heads" in near.because
    assert "l1 head 1: 0.400" in near.because
    assert "as calibrated: 0.0200 against 0.0400" in better.because
    worse = [{**row, "drift": 0.06} if row["text"] == "another" else row for row in drifts[:2]] + drifts[2:]
    assert claim.verdicts([swapped("drift", "MiniLM", worse)])[0].outcome is REFUTED
    heads[0]["error"] = 0.2
    assert claim.verdicts([swapped("heads", "MiniLM", heads)])[0].outcome is REFUTED


def test_drifts_are_those_of_the_calibrated_and_the_uncalibrated_model():
    """On a small model: budgets by head are used and then forgotten, and the model is left exact."""
    import torch
    import transformers

    claim = claims.load("swapped_models")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    model = transformers.BertModel(
        transformers.BertConfig(vocab_size=64, **sizes, initializer_range=0.3)
    ).eval()
    one, other = (
        {"input_ids": torch.randint(1, 64, (1, 160), generator=torch.Generator().manual_seed(i))}
        for i in (0, 1)
    )
    with torch.no_grad():
        before = model(**one)[0]
        rows = list(claim._drifts(model, "tangent", one, other))
        assert torch.equal(model(**one)[0], before)
    assert [(row["way"], row["text"]) for row in rows] == [
        (way, text) for way in (claim.CALIBRATED, claim.UNIFORM) for text in ("as calibrated", "another")
    ]
    assert not hasattr(model.config, "nystrom_budgets")
    assert all(row["drift"] > 0 or row["exact"] == 8 for row in rows)


# ---------------------------------------------------------------- tolerances on what nothing was tuned on


def test_long_texts_stand_one_after_the_other(monkeypatch):
    """Three heads of queries with the keys that each shares, of as many texts as there are tokens for."""
    claim = claims.load("chosen_budgets")
    asked = []

    def captured(model, ids, layers):
        n = ids
        asked.append(n)
        q, k = np.random.default_rng(len(asked)).standard_normal((2, 1, 9, n, 4)).astype(np.float32)
        return SimpleNamespace(q=q, k=k[:, :3], v=k[:, 3:6], scale=0.5)

    monkeypatch.setattr(claim.language, "smollm2", lambda: (None, None))
    monkeypatch.setattr(claim.language, "tokens", lambda tokenizer, name, n: (n, name))
    monkeypatch.setattr(claim.language, "captured", captured)
    monkeypatch.setattr(claim, "CONTEXT", 150)
    q, k, v, scale = claim._heads({"input": "SmolLM2", "tokens": 300, "layer": 12})
    assert asked == [150, 150]
    assert q.shape == k.shape == v.shape == (3, 300, 4)
    assert scale == 0.5
    rows = claim.run(Case("chosen_budgets", {"input": "SmolLM2", "tokens": 300, "layer": 12}))
    assert len(rows) == 6
    for row in rows:
        assert row["n"] == 300
        assert row["error"] <= row["tolerance"] or row["m"]
    verdicts = claim.verdicts(
        [Record(Case("chosen_budgets", {"input": "SmolLM2"}), tuple(rows), None, 0.0, {})]
    )
    assert [v.statement.split(":")[0] for v in verdicts] == ["SmolLM2 at 300 tokens"] * 2


def test_what_was_not_tuned_on_is_judged_by_itself():
    claim = claims.load("chosen_budgets")
    row = {"head": 0, "tolerance": 0.1, "m": 16, "error": 0.05, "upper": 0.09, "entries": 0.1, "spent": 0.5}
    cases = [
        {"input": "MiniLM", "text": 0},
        {"input": "MiniLM", "text": claim.UNREAD},
        {"input": "Whisper", "recording": "Beckett"},
        {"input": "Whisper", "recording": models.CONTINUOUS},
    ]
    records = [
        Record(Case("chosen_budgets", {**p, "layer": 0}), ({**row, "time": 9.0, "n": 512},), None, 0.0, {})
        for p in cases
    ]
    names = {v.statement.partition(":")[0] for v in claim.verdicts(records)}
    assert names == {"MiniLM", "MiniLM on legal", "Whisper", "Whisper on Endgame"}
