"""Every architecture computes what its own attention computes, or is refused by name: forty families and more.

``make conformance`` runs all of them and writes the table of the documentation.
"""

from __future__ import annotations

import warnings

import pytest

from tests.conformance import families, pairs

FAMILIES = (
    *("albert", "bart", "bert", "bert_generation", "biogpt", "blenderbot", "camembert", "clip", "cohere"),
    *(
        "data2vec",
        "deit",
        "distilbert",
        "electra",
        "ernie",
        "esm",
        "gemma",
        "gemma2",
        "gpt2",
        "gpt_neox",
        "gpt_oss",
    ),
    *("granite", "llama", "m2m_100", "marian", "mbart", "mistral", "mixtral", "modernbert", "olmo2", "opt"),
    *(
        "pegasus",
        "phi",
        "phi3",
        "plbart",
        "qwen2",
        "qwen3",
        "roberta",
        "siglip",
        "smollm3",
        "stablelm",
        "starcoder2",
    ),
    *("vit", "wav2vec2", "whisper", "xlm_roberta", "bigbird_pegasus"),
)
"""Encoders, decoders and both; of text, sound and pictures; sliding windows, sinks, caps and caches."""


@pytest.fixture(scope="module", autouse=True)
def registered():
    import transformers

    transformers.logging.set_verbosity_error()
    pairs.register()


def test_there_are_forty():
    assert len(set(FAMILIES) & families.modules().keys()) >= 40


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_to_eager_attention_or_refused(family):
    if family not in families.modules():
        pytest.skip("this version of transformers gives it no attention interface")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = families.report(family)
    outcomes = [(name, one) for name, several in found.outcomes.items() for one in several]
    wrong = [f"{name}, {one.case}: {one.detail}" for name, one in outcomes if one.verdict == "wrong"]
    assert not wrong, "\n".join(wrong)
    assert any(one.verdict in ("served", "refused") for _, one in outcomes), "nothing of it was run"
