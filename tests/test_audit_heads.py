"""``nystrom audit`` of queries, keys and values: any estimator, one head or all."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from nystrom_numerics import attention
from nystrom_numerics.cli import audit as audit_command
from nystrom_numerics.cli.commands import application


@pytest.fixture
def nystrom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit_command, "out", Console(width=250))  # wide, whatever was imported before
    return lambda *arguments: CliRunner().invoke(application(), ["audit", *arguments])


def test_attention(nystrom, tmp_path):
    q, k, v = np.random.default_rng(0).standard_normal((3, 2, 60, 4))
    np.savez("h.npz", q=q, k=k, v=v)
    result = nystrom("h.npz", "-m", "8", "--head", "1", "--html", "h.html")
    assert result.exit_code == 0, result.output
    for text in (
        "60 queries, 60 keys",
        "Ŝ − S, sampled rows",
        "F(A⁺ − Z)B, backward",
        "lifted kernel, entry",
    ):
        assert text in result.output
    page = (tmp_path / "h.html").read_text()
    assert "asymptotic" in page
    assert "Singular values of S" in page
    scores = q[1] @ k[1].T / 2
    s = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    best = np.linalg.norm(np.linalg.svd(s, compute_uv=False)[8:])
    assert f"The best matrix of rank 8 has the error {best:.4g}" in result.output
    assert nystrom("h.npz", "--head", "2", "-m", "8").exit_code == 1


def test_the_spectrum_of_long_attention_is_that_of_its_core(nystrom, tmp_path, monkeypatch):
    monkeypatch.setattr("nystrom_numerics.cli.auditing.heads.FORMED", 59 * 60)
    q, k = np.random.default_rng(0).standard_normal((2, 60, 4))
    np.savez("h.npz", q=q, k=k)
    result = nystrom("h.npz", "-m", "8", "--html", "h.html")
    assert result.exit_code == 0, result.output
    assert "Singular values of the core" in (tmp_path / "h.html").read_text()
    assert "best matrix" not in result.output


def errors_of(name, q, k, v, m):
    """What an estimator misses, and the sizes of what it is to be, for one head."""
    made = attention.ESTIMATORS[name].make(q, k, m)
    scores = q @ k.T / 2
    s = np.exp(np.where(np.tri(len(q), dtype=bool) | (not made.causal), scores, -np.inf))
    s /= s.sum(axis=1, keepdims=True)
    error = made.apply(np.eye(len(k))) - s
    return {
        "size": np.linalg.norm(s),
        "true_error": np.linalg.norm(error),
        "true_relative_error": np.linalg.norm(error) / np.linalg.norm(s),
        "true_output_error": np.linalg.norm(error @ v),
        "true_relative_output_error": np.linalg.norm(error @ v) / np.linalg.norm(s @ v),
    }


@pytest.mark.parametrize("name", attention.ESTIMATORS)
def test_every_estimator_of_one_head_and_of_all(nystrom, tmp_path, name):
    q, k, v = np.random.default_rng(0).standard_normal((3, 3, 60, 4))
    np.savez("h.npz", q=q, k=k, v=v)
    files = ["--json", "h.json", "--csv", "h.csv"]
    one = nystrom("h.npz", "-m", "8", "--head", "2", "--estimator", name, *files)
    assert one.exit_code == 0, one.output
    single = json.loads((tmp_path / "h.json").read_text())
    result = nystrom("h.npz", "-m", "8", "--head", "all", "--estimator", name, *files)
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "h.json").read_text())
    assert [head["head"] for head in told["heads"]] == [0, 1, 2]
    assert told["heads"][2] == single["heads"][0]
    for i, head in enumerate(told["heads"]):
        expected = errors_of(name, q[i], k[i], v[i], 8)
        assert {key: head[key] for key in expected} == pytest.approx(expected, rel=1e-6, abs=1e-12)
        assert head["error_lower"] <= head["error"] <= head["error_upper"]
        assert head["relative_error"] == pytest.approx(head["error"] / head["size"])
    rows = list(csv.DictReader((tmp_path / "h.csv").read_text().splitlines()))
    for row, head in zip(rows, told["heads"], strict=True):
        assert row["estimator"] == name
        assert float(row["true_error"]) == head["true_error"]
        assert int(row["entries"]) == head["entries"]
    assert f"{told['heads'][2]['true_relative_error']:.4g} of ‖S‖_F" in one.output
    for head in told["heads"]:
        assert f"{head['true_error']:.4g}" in result.output


def test_without_values_and_beyond_what_is_formed(nystrom, tmp_path, monkeypatch):
    q, k = np.random.default_rng(0).standard_normal((2, 2, 300, 4))
    np.savez("h.npz", q=q, k=k)
    arguments = ("h.npz", "-m", "8", "--head", "all", "--estimator", "tangent", "--json", "h.json")
    found = []
    for formed in (300 * 300, 300 * 300 - 1):
        monkeypatch.setattr("nystrom_numerics.cli.auditing.heads.FORMED", formed)
        assert nystrom(*arguments).exit_code == 0
        found.append(json.loads((tmp_path / "h.json").read_text())["heads"])
    for true, sampled in zip(*found, strict=True):
        assert true["output_error"] is true["true_output_error"] is true["output_size"] is None
        assert (true["sizes_from_all_rows"], sampled["sizes_from_all_rows"]) == (True, False)
        assert sampled["true_error"] is None
        assert sampled["size"] == pytest.approx(true["size"], rel=0.1)
        assert sampled["error"] == true["error"]
