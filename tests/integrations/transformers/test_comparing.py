"""Heads of a model judged on what they meet: against the truth computed by hand, and the model left as it was."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nystrom_numerics import attention, errors
from nystrom_numerics.integrations.transformers import (
    UnsupportedModelError,
    compare,
    register_with_transformers,
    use_nystrom,
)
from tests.thorough import many

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=64, max_position_embeddings=256, initializer_range=0.4, **SIZES
    )
    return transformers.BertModel(config).eval()


@pytest.fixture(scope="module")
def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=64, num_key_value_heads=2, initializer_range=0.3, **SIZES)
    return transformers.LlamaModel(config).eval()


def tokens(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(1, 64, shape))


def projected(model, ids):
    """Queries, keys and values of the first layer of a BERT."""
    layer = model.encoder.layer[0].attention.self
    hidden = model.embeddings(ids)
    return tuple(
        getattr(layer, role)(hidden)[0].unflatten(-1, (4, 8)).transpose(0, 1).detach().numpy().astype(float)
        for role in ("query", "key", "value")
    )


def test_errors_are_those_of_the_heads(bert):
    """With every row exact: the error, and what the best matrix of the rank leaves, of the first layer by hand."""
    ids = tokens(1, 120)
    found = compare(bert, {"input_ids": ids}, [("tangent", 16), ("nystrom", 8)], rows=120)
    assert len(found.heads) == 2 * 4 * 2
    q, k, v = projected(bert, ids)
    for head in found.heads:
        if "layer.0" not in head.layer:
            continue
        at = q[head.head], k[head.head], v[head.head]
        s = attention.exact(at[0], at[1], np.eye(120))
        operator = attention.ESTIMATORS[head.estimator].make(at[0], at[1], head.m)
        truth = np.linalg.norm(operator.apply(at[2]) - s @ at[2]) / np.linalg.norm(s @ at[2])
        assert head.error == pytest.approx(truth, rel=1e-3)
        assert head.lower <= truth * (1 + 1e-3)
        assert head.upper >= truth * (1 - 1e-3)
        assert head.tokens == 120
        assert head.entries == pytest.approx(operator.entries / 120**2)
        sigma = np.linalg.svd(s, compute_uv=False)
        assert head.best == pytest.approx(np.linalg.norm(sigma[head.m :]) / np.linalg.norm(sigma), rel=1e-4)


def test_drift_is_that_of_the_switched_model(bert):
    ids = tokens(1, 120)
    found = compare(bert, {"input_ids": ids}, [("tangent", 16)])
    register_with_transformers("swapped", m=16, tangent=True)
    with torch.no_grad():
        exact = bert(ids)[0]
        with use_nystrom(bert, "swapped"):
            got = bert(ids)[0]
    truth = float(torch.linalg.norm(got - exact) / torch.linalg.norm(exact))
    assert truth > 1e-4
    assert found.drift == {("tangent", 16): pytest.approx(truth, rel=1e-3)}


def test_the_model_is_left_as_it_was(bert):
    ids = tokens(1, 60)
    with torch.no_grad():
        before = bert(ids)[0]
        compare(bert, {"input_ids": ids}, [("tangent", 16)])
        with pytest.raises(UnsupportedModelError):
            compare(bert, {"input_ids": ids}, [("causal", 16)])
        assert torch.equal(bert(ids)[0], before)
    assert bert.config._attn_implementation == "sdpa"


def test_padding_has_no_part_in_it(bert):
    ids, mask = tokens(2, 100), torch.ones(2, 100, dtype=torch.int64)
    mask[0, 70:] = 0
    whole = compare(bert, {"input_ids": ids, "attention_mask": mask}, [("tangent", 16)], rows=100)
    alone = compare(bert, {"input_ids": ids[:1, :70]}, [("tangent", 16)], rows=100)
    padded = [head for head in whole.heads if head.text == 0]
    assert {head.tokens for head in padded} == {70}
    for one, other in zip(padded, alone.heads, strict=True):
        assert one.error == pytest.approx(other.error, rel=1e-3)
        assert (one.layer, one.head) == (other.layer, other.head)


def test_causal_heads_with_shared_keys(llama):
    found = compare(llama, {"input_ids": tokens(1, 400)}, [("causal", 16), ("exact_causal", 16)], rows=400)
    by_name = {
        name: [head for head in found.heads if head.estimator == name] for name in ("causal", "exact_causal")
    }
    assert len(by_name["causal"]) == 2 * 4
    assert max(head.error for head in by_name["exact_causal"]) < 1e-5
    assert {head.entries for head in by_name["exact_causal"]} == {1.0}, "of the past alone"
    assert found.drift["exact_causal", 16] < 1e-5
    assert 1e-4 < found.drift["causal", 16] < 1
    assert all(0 < head.error < 1 and head.entries < 1 for head in by_name["causal"])


@pytest.mark.skipif(not many(True, False), reason="a quarter of a minute: THOROUGH=1 has it")
def test_long_inputs_hold_no_square():
    """Of 3,000 tokens a square has 9 million entries: no tensor has a quarter as many, nor NumPy as many bytes."""
    n, largest = 3000, []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            largest.extend(
                x.untyped_storage().nbytes() // x.element_size()
                for x in tree_leaves(made)
                if torch.is_tensor(x)
            )
            return made

    few = {**SIZES, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=64, max_position_embeddings=n, **few)
    model = transformers.BertModel(config).eval()
    tracemalloc.start()
    with Sizes():
        found = compare(model, {"input_ids": tokens(1, n)}, [("tangent", 16)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [head.tokens for head in found.heads] == [n] * 2
    assert n < max(largest) < n * n // 4
    assert peak < 8 * n * n // 4


def test_what_is_shown(bert):
    found = compare(bert, {"input_ids": tokens(1, 60)}, [("tangent", 16), ("nystrom", 8)])
    told = str(found)
    assert told.count("\n") == 1
    assert "tangent, m = 16: 8 heads" in told
    page = found.to_html()
    assert page.count("<table>") == 2
    assert page.count("<td ") == 16
    assert "encoder.layer.1.attention.self" in page
    frame = found.to_frame()
    assert len(frame) == 16
    assert (frame["lower"] <= frame["error"]).all()


def test_short_texts_are_refused_as_nothing_is_met(bert):
    with pytest.raises(UnsupportedModelError, match="met no attention"):
        compare(bert, {"input_ids": tokens(1, 8)}, [("tangent", 16)])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"model": 3}, "model"),
        ({"inputs": [1]}, "inputs"),
        ({"estimators": 3}, "estimators"),
        ({"estimators": [("best", 3)]}, "estimators"),
        ({"estimators": ["tangent"]}, "estimators"),
        ({"estimators": [("tangent", 0)]}, "estimators"),
        ({"failure": 0.0}, "failure"),
    ],
)
def test_bad_arguments(arguments, named, bert):
    given = {"model": bert, "inputs": {"input_ids": tokens(1, 20)}, **arguments}
    with pytest.raises(errors.ArgumentError) as caught:
        compare(given.pop("model"), given.pop("inputs"), **given)
    assert caught.value.argument == named
