"""Rows of attention, drawn: the numbers in the picture are those of the operator, without what is masked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from nystrom_numerics import attention
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.integrations.drawing import draw_rows
from nystrom_numerics.integrations.transformers import head_operator

N = 40
REAL = np.arange(N) < 33


def operator(mask=None):
    q, k = np.random.default_rng(0).standard_normal((2, N, 4))
    return attention.tangent_operator(q, k, key_mask=mask, query_mask=mask)


@pytest.mark.parametrize("mask", [None, REAL], ids=["whole", "padded"])
def test_rows_of_keys_and_their_labels(mask):
    made = operator(mask)
    words = [f"w{i}" for i in range(N)]
    axes = draw_rows(made, [3, 20], labels=words).axes[0]
    real = slice(None) if mask is None else mask
    np.testing.assert_array_equal(axes.images[0].get_array(), made.rows([3, 20])[:, real])
    assert [x.get_text() for x in axes.get_yticklabels()] == ["token 3", "token 20"]
    assert [x.get_text() for x in axes.get_xticklabels()] == list(np.array(words)[real])


@pytest.mark.parametrize("mask", [None, REAL], ids=["whole", "padded"])
def test_pictures_of_places(mask):
    made, places = operator(mask), np.random.default_rng(1).random((N, 2))
    real = slice(None) if mask is None else mask
    figure = draw_rows(made, torch.tensor([3, 20]), places=places)
    for axes, number in zip(figure.axes, (3, 20), strict=False):
        assert axes.get_title() == f"token {number}"
        np.testing.assert_array_equal(axes.collections[0].get_array(), made.rows([number])[0][real])
        np.testing.assert_array_equal(axes.collections[0].get_offsets(), places[real])


def test_many_tokens_are_drawn_without_n_by_n_entries(monkeypatch):
    q, k = np.random.default_rng(0).standard_normal((2, 20_000, 4)).astype(np.float32)
    made = attention.tangent_operator(q, k)
    places = np.stack(np.unravel_index(np.arange(20_000), (200, 100)), axis=1)
    assert len(draw_rows(made, [0, 9_999], places=places).axes[0].collections[0].get_array()) == 20_000


def test_one_head_at_a_time():
    q, k = np.random.default_rng(0).standard_normal((2, 3, N, 4))
    with pytest.raises(ShapeError, match=r"`operator` .* one head"):
        draw_rows(attention.tangent_operator(q, k), [0])


# ---------------------------------------------------------------- heads of models

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
LAYER = "encoder.layer.1.attention.self"


def bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=64, initializer_range=0.3, **SIZES)
    return transformers.BertModel(config, add_pooling_layer=False).eval()


def test_a_head_of_a_model_is_read_without_its_padding():
    model, ids = bert(), torch.arange(2 * N).reshape(2, N) % 64
    mask = torch.from_numpy(np.stack([REAL, np.ones(N, dtype=bool)])).long()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(ids, attention_mask=mask, output_attentions=True).attentions[1][0, 2]
    model.set_attn_implementation("sdpa")
    given = {"input_ids": ids, "attention_mask": mask}
    made = head_operator(model, given, LAYER, 2, estimator="exact")
    assert made.shape == (33, 33)
    torch.testing.assert_close(made.rows([0, 32]), weights[[0, 32]][:, :33], rtol=1e-4, atol=1e-6)
    near = head_operator(model, given, LAYER, 2, m=16)
    assert 0 < float((near.rows([5]) - made.rows([5])).norm()) < 0.5 * float(made.rows([5]).norm())
    whole = head_operator(model, given, LAYER, 2, estimator="exact", text=1)
    assert whole.shape == (N, N)
    assert draw_rows(near, [5]).axes[0].images[0].get_array().shape == (1, 33)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"layer": "encoder"}, "layer"),
        ({"head": 4}, "head"),
        ({"text": 1}, "text"),
        ({"estimator": "causal"}, "estimator"),
        ({"estimator": "best"}, "estimator"),
    ],
    ids=str,
)
def test_what_there_is_not(options, named):
    given = {"layer": LAYER, "head": 0, **options}
    layer, head = given.pop("layer"), given.pop("head")
    with pytest.raises(RangeError, match=f"`{named}`"):
        head_operator(bert(), {"input_ids": torch.arange(N)[None]}, layer, head, **given)
