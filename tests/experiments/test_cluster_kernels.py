"""Kernels over a cluster: verdicts that can go either way, and the watched end of a worker."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import claims
from experiments.contract import Case, Outcome, Record
from experiments.programs import chunked

SUPPORTED, REFUTED, UNDECIDED = Outcome.SUPPORTED, Outcome.REFUTED, Outcome.UNDECIDED
CLAIM = claims.load("cluster_kernels")


def outcomes(n=20_000_000, **changed):
    """Of a run in which all goes well, with some numbers changed: ``{method: {name: value}}``."""
    common = {"n": n, "seconds": 60.0, "cpu": 100.0, "load": 0.2, "error": 0.51}
    made = {"busiest": 60.0, "peak": 1e9, "died": False, "digest": "a", "residual": 1e-15}
    rows = {
        "in memory": {**common, "n": n // 20, "cpu": 5.0},
        "scikit-learn, Nystroem": {**common, "n": 20_000, "error": 0.55},
        "scikit-learn, KernelRidge": {**common, "n": 4000, "error": 0.6},
        "1 worker": {**common, **made, "busiest": 100.0},
        "2 workers": {**common, **made},
        "2 workers, one dies": {**common, **made, "died": True},
    }
    for method, change in changed.items():
        rows[method.replace("_", " ")].update(change)
    found = [{"method": name, **row} for name, row in rows.items()]
    record = Record(Case("cluster_kernels", {}), tuple(found), None, 0.0, {})
    assert not CLAIM.table([record]).empty
    assert CLAIM.plot([record]).axes
    return [verdict.outcome for verdict in CLAIM.verdicts([record])]


def test_verdicts_go_either_way():
    assert outcomes() == [SUPPORTED] * 5
    assert CLAIM.verdicts([]) == ()
    some = Record(Case("cluster_kernels", {}), ({"method": "1 worker", "n": 10},), None, 0.0, {})
    (verdict,) = CLAIM.verdicts([some])
    assert verdict.outcome is UNDECIDED
    assert verdict.because == "Not run: in memory; 2 workers; 2 workers, one dies."
    dead = "2 workers, one dies"
    for place, changed in enumerate(
        (
            {"2_workers": {"peak": 4.1e9}},
            {dead: {"digest": "b"}},
            {"2_workers": {"cpu": 160.0}},
            {"2_workers": {"busiest": 90.0}},
            {"2_workers": {"error": 0.56}},
        )
    ):
        wanted = [SUPPORTED] * 5
        wanted[place] = REFUTED
        assert outcomes(**changed) == wanted
    assert outcomes(**{dead: {"died": False}})[1] == UNDECIDED
    assert (
        outcomes(**{"2_workers": {"load": 30.0, "seconds": 900.0}}) == [SUPPORTED] * 5
    )  # whatever else runs
    assert outcomes(n=100_000) == [UNDECIDED, SUPPORTED, UNDECIDED, UNDECIDED, SUPPORTED]


def test_the_data_are_the_same_in_any_blocks(tmp_path, monkeypatch):
    """Of a longer file the first points are those of a shorter one, and the function is what is learned."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(chunked, "AT_ONCE", 1000)
    chunked._write(tmp_path / "a", 2000, 3)
    chunked._write(tmp_path / "b", 2500, 3)
    for name in ("x.npy", "y.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / "b" / name)[:2000], np.load(tmp_path / "a" / name))
    x, y = np.load(tmp_path / "b" / "x.npy"), np.load(tmp_path / "b" / "y.npy")
    assert np.std(y - np.sin(2 * x[:, 0]) - x[:, 1] * x[:, 2] / 2) == pytest.approx(0.5, rel=0.05)
