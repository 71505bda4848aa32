"""``nystrom swap``: folders of models with a text, speech or numbers of tokens, and everything it refuses."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
import transformers
from rich.console import Console
from scipy.io import wavfile
from typer.testing import CliRunner

from nystrom_numerics.cli import swap as swap_command
from nystrom_numerics.cli.commands import application
from nystrom_numerics.integrations.transformers import compare, register_with_transformers, use_nystrom

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(chr, range(ord("a"), ord("z") + 1))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A BERT with a tokenizer of letters, a causal Llama without one, and a Whisper."""
    torch.manual_seed(0)
    found = {name: tmp_path_factory.mktemp(name) for name in ("bert", "llama", "whisper")}
    (found["bert"] / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(found["bert"] / "vocab.txt")).save_pretrained(found["bert"])
    words = {"vocab_size": len(WORDS), "initializer_range": 0.4}
    config = transformers.BertConfig(**SIZES, **words, max_position_embeddings=128)
    transformers.BertModel(config).save_pretrained(found["bert"])
    config = transformers.LlamaConfig(**SIZES, **words, num_key_value_heads=1, max_position_embeddings=512)
    transformers.LlamaForCausalLM(config).save_pretrained(found["llama"])
    ends = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    config = transformers.WhisperConfig(
        vocab_size=16,
        d_model=16,
        **{f"{side}_layers": 1 for side in ("encoder", "decoder")},
        **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": 16 for side in ("encoder", "decoder")},
        suppress_tokens=[],
        begin_suppress_tokens=[],
        **ends,
    )
    transformers.WhisperForConditionalGeneration(config).save_pretrained(found["whisper"])
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(found["whisper"])
    return found


@pytest.fixture
def nystrom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(swap_command, "out", Console(width=250))
    monkeypatch.setattr(swap_command, "err", Console(width=250, stderr=True))
    (tmp_path / "letters.txt").write_text(" ".join("the quick brown fox jumps over the lazy dog" * 6))
    numbers = np.random.default_rng(0).integers(5, len(WORDS), (2, 200))
    np.save("ids.npy", numbers)
    (tmp_path / "ids.json").write_text(json.dumps(numbers[0].tolist()))
    wave = np.random.default_rng(0).standard_normal((11025, 2)) * 3000
    wavfile.write("noise.wav", 22050, wave.astype(np.int16))
    return lambda *arguments: CliRunner().invoke(application(), ["swap", *map(str, arguments)])


def test_a_text(nystrom, folders, tmp_path):
    """Numbers are those of `compare` on the same tokens, cut at the model's context."""
    files = ("--html", "p.html", "--json", "n.json", "--csv", "n.csv")
    result = nystrom(
        folders["bert"],
        "--text",
        "letters.txt",
        "--estimator",
        "tangent",
        "--estimator",
        "paper",
        "-m",
        16,
        *files,
    )
    assert result.exit_code == 0, result.output
    assert "BertModel of bert" in result.output
    assert "128 of 212 tokens of letters.txt" in result.output
    model = transformers.BertModel.from_pretrained(folders["bert"]).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    text = (tmp_path / "letters.txt").read_text()
    ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=128)["input_ids"]
    expected = compare(model, {"input_ids": ids}, [("tangent", 16), ("paper", 16)])
    told = json.loads((tmp_path / "n.json").read_text())
    assert [head["error"] for head in told["heads"]] == pytest.approx([head.error for head in expected.heads])
    assert {(one["estimator"], one["m"]): one["drift"] for one in told["drift"]} == pytest.approx(
        expected.drift
    )
    with (tmp_path / "n.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [float(line["upper"]) for line in lines] == pytest.approx([head.upper for head in expected.heads])
    page = (tmp_path / "p.html").read_text()
    assert page.count("<caption>") == 2
    assert f"{expected.heads[0].error:.3f}</td>" in page
    assert "http" not in page
    for one in expected.summaries:
        assert f"{one.quartiles[1]:.3f}" in result.output


@pytest.mark.parametrize("file", ["ids.npy", "ids.json"])
def test_numbers_of_tokens_for_a_causal_model(nystrom, folders, file):
    result = nystrom(folders["llama"], "--ids", file, "--tokens", 180, "-m", 16)
    assert result.exit_code == 0, result.output
    assert ("2 texts of 180 of 200 tokens" if file == "ids.npy" else ": 180 of 200 tokens") in result.output
    assert "causal, m = 16" in result.output
    assert "tangent, m" not in result.output, "no attention is full"


def test_speech_in_an_encoder_saved_with_its_budgets(nystrom, folders, tmp_path):
    """The folder that is saved loads, and each head of its encoder has the budget that was told."""
    result = nystrom(
        folders["whisper"], "--audio", "noise.wav", "--error", 0.5, "--save", "kept", "--json", "n.json"
    )
    assert result.exit_code == 0, result.output
    assert "0.5 s of noise.wav, in the encoder" in result.output
    told = json.loads((tmp_path / "n.json").read_text())
    budgets = [head["m"] for head in told["budgets"]]
    assert len(budgets) == 2
    assert set(budgets) != {0}
    kept = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "kept").eval()
    assert kept.config.nystrom_budgets == {"error": 0.5, "layers": {"encoder.layers.0.self_attn": budgets}}
    register_with_transformers("loaded", m=8)
    use_nystrom(kept, "loaded", parts=["model.encoder"])
    assert kept.model.encoder.layers[0].self_attn.nystrom_budgets == tuple(budgets)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["bert"], 2, "give one of"),
        (["bert", "--text", "letters.txt", "--ids", "ids.npy"], 2, "give one of"),
        (["bert", "--text", "letters.txt", "--save", "x"], 2, "needs --error"),
        (["bert", "--text", "letters.txt", "--estimator", "best"], 1, "no estimator best"),
        (["bert", "--text", "none.txt"], 1, "no such file"),
        (["bert", "--text", "noise.wav"], 1, "not UTF-8"),
        (["bert", "--audio", "noise.wav"], 1, "no feature extractor"),
        (["llama", "--text", "letters.txt"], 1, "no tokenizer"),
        (["whisper", "--audio", "letters.txt"], 1, "no WAV file"),
        (["bert", "--ids", "letters.txt"], 1, "neither .npy nor JSON"),
        (["bert", "--ids", "large.json"], 1, "numbers from 0 to 99; needs 0 to 30"),
        (["bert", "--ids", "half.json"], 1, "needs whole numbers"),
        (["bert", "--ids", "short.json"], 1, "met no attention"),
        (["bert", "--text", "letters.txt", "--html", "letters.txt"], 1, "name another one"),
        (["bert", "--text", "letters.txt", "--error", "0.1", "--save", "letters.txt"], 2, "another folder"),
        (["nowhere", "--text", "letters.txt"], 1, "no folder"),
        ([".", "--text", "letters.txt"], 1, "no model"),
    ],
)
def test_what_is_refused(nystrom, folders, tmp_path, arguments, code, said):
    (tmp_path / "large.json").write_text("[0, 99]")
    (tmp_path / "half.json").write_text("[0.5]")
    (tmp_path / "short.json").write_text("[1, 2, 3]")
    where, *options = arguments
    result = nystrom(folders.get(where, where), *options)
    assert result.exit_code == code
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_the_table_is_whole_at_80_columns(nystrom, folders, monkeypatch):
    monkeypatch.setattr(swap_command, "out", Console(width=80))
    told = nystrom(folders["bert"], "--text", "letters.txt", "-m", 8).output
    assert max(map(len, told.splitlines())) <= 80
    assert "encoder.layer.0.attention.self" in told
    assert "…" not in told
