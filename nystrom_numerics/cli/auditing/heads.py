"""How far an estimator is from the attention of queries, keys and values: one head, or all of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nystrom_numerics.cli.auditing import pictures
from nystrom_numerics.cli.auditing.finding import AuditError, Finding, Line, Options, counts, require_moderate
from nystrom_numerics.cli.matrix_files import Stored, UnreadableFileError

if TYPE_CHECKING:
    from nystrom_numerics.attention import AttentionCertificate, AttentionOperator
    from nystrom_numerics.attention.estimators import Estimator
    from nystrom_numerics.bounds import Bound

__all__ = ["DEFAULT_ESTIMATOR", "of_attention"]

DEFAULT_ESTIMATOR = "paper"

MOST_LANDMARKS = 4096
"""Landmarks of attention that an audit takes: it forms cores of so many rows."""

FORMED = 2048**2
"""Entries of an attention matrix up to which it is formed, for the truth and its singular values: some seconds."""

SIZED_BY = 256
"""Rows from which the size of a larger one is taken."""


def of_attention(arrays: dict[str, Stored], file: Path, asked: Options) -> Finding:
    """One head with every bound there is, or the errors of all heads."""
    from nystrom_numerics.attention import ESTIMATORS

    name = asked.estimator or DEFAULT_ESTIMATOR
    if name not in ESTIMATORS:
        raise AuditError(f"no estimator {name:.80}; the estimators are {', '.join(ESTIMATORS)}")
    given: dict[str, np.ndarray] = {of: arrays[of].values for of in ("q", "k", "v") if of in arrays}
    for of, x in given.items():
        if x.ndim < 2:
            raise UnreadableFileError(f"{file}: array {of} has shape {x.shape}; (…, tokens, width) is needed")
    if asked.head == "all":
        numbers = range(int(np.prod(given["q"].shape[:-2])))
        if not len(numbers):
            raise UnreadableFileError(f"{file}: array q has no head")
    else:
        numbers = range(int(asked.head or 0), int(asked.head or 0) + 1)
    heads = [_Head.of(file, given, number, name, ESTIMATORS[name], asked) for number in numbers]
    title = f"{file.name}: attention"
    return _one(heads[0], title) if len(heads) == 1 else _several(heads, title)


@dataclass(frozen=True)
class _Sizes:
    """Frobenius norms of S and SV, from all rows or some, and of the errors, where S is small enough to be formed."""

    s: float
    output: float
    all_rows: bool
    error: float | None
    output_error: float | None


@dataclass(frozen=True)
class _Head:
    """One head under one estimator."""

    number: int
    name: str
    estimator: Estimator
    m: int
    seed: int
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    has_values: bool
    operator: AttentionOperator
    certificate: AttentionCertificate
    sizes: _Sizes

    @classmethod
    def of(
        cls,
        file: Path,
        given: dict[str, np.ndarray],
        number: int,
        name: str,
        estimator: Estimator,
        asked: Options,
    ) -> _Head:
        q, k, *values = (_one_head(file, of, x, number) for of, x in given.items())
        most = min(len(q), len(k), MOST_LANDMARKS)
        if asked.m > most:
            raise UnreadableFileError(
                f"{asked.m} landmarks for {min(len(q), len(k))} tokens; give --landmarks of at most {most}"
            )
        v = values[0] if values else k
        operator, certificate = _certified(q, k, v, estimator, asked.m, asked.seed)
        sizes = _sizes(operator, q, k, v)
        about = (number, name, estimator, asked.m, asked.seed)
        return cls(*about, q, k, v, bool(values), operator, certificate, sizes)

    @property
    def record(self) -> dict[str, Any]:
        """Its numbers; ``None`` where there is none."""
        pairs = [("", self.certificate.matrix, self.sizes.s, self.sizes.error)]
        if self.has_values:
            pairs.append(("output_", self.certificate.output, self.sizes.output, self.sizes.output_error))
        found: dict[str, Any] = {
            "head": self.number,
            "estimator": self.name,
            "landmarks": self.m,
            "queries": len(self.q),
            "keys": len(self.k),
            "width": self.q.shape[1],
            "entries": self.operator.entries,
            "exact_rows": self.certificate.rows,
            "exact_entries": self.certificate.exact_entries,
            "sizes_from_all_rows": self.sizes.all_rows,
        }
        for of in ("", "output_"):
            for what in ("error", "error_lower", "error_upper"):
                found[f"{of}{what}"] = found[f"relative_{of}{what}"] = None
            found[f"{of}size"] = found[f"true_{of}error"] = found[f"true_relative_{of}error"] = None
        for of, pair, size, truth in pairs:
            numbers = {
                "error": None if pair.estimate is None else pair.estimate.value,
                "error_lower": pair.lower.value,
                "error_upper": pair.upper.value,
            }
            found[f"{of}size"] = size
            for what, value in numbers.items():
                found[f"{of}{what}"] = value
                found[f"relative_{of}{what}"] = _over(value, size)
            found[f"true_{of}error"], found[f"true_relative_{of}error"] = truth, _over(truth, size)
        return found


def _over(value: float | None, size: float) -> float | None:
    return None if value is None or size == 0 else value / size


def _certified(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, estimator: Estimator, m: int, seed: int
) -> tuple[AttentionOperator, AttentionCertificate]:
    from nystrom_numerics.attention import certify_operator

    operator = estimator.make(q, k, m)
    return operator, certify_operator(operator, v, rng=seed)


def _sizes(operator: AttentionOperator, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> _Sizes:
    from nystrom_numerics.attention import exact_operator

    exact = exact_operator(q, k, causal=operator.causal)
    if len(q) * len(k) > FORMED:
        at = np.linspace(0, len(q) - 1, min(SIZED_BY, len(q))).astype(int)
        s = exact.rows(at)
        share = np.sqrt(len(q) / len(at))
        return _Sizes(_norm(s) * share, _norm(s @ v) * share, False, None, None)
    s = exact.rows(range(len(q)))
    error = operator.rows(range(len(q))) - s
    return _Sizes(_norm(s), _norm(s @ v), True, _norm(error), _norm(error @ v))


def _norm(x: np.ndarray) -> float:
    """Frobenius, of numbers whose squares may overflow."""
    top = float(np.abs(x).max())
    return 0.0 if top == 0 else top * float(np.linalg.norm(x / top))


def _one(head: _Head, title: str) -> Finding:
    from nystrom_numerics.attention import NystromOperator

    certificate, operator, sizes, m = head.certificate, head.operator, head.sizes, head.m
    n_q, n_k = len(head.q), len(head.k)
    pairs = [
        ("Ŝ − S, sampled rows", certificate.matrix, sizes.error),
        ("Ŝ − S, with certainty", certificate.certain, sizes.error),
    ]
    if head.has_values:
        pairs.append(("(Ŝ − S)V, sampled rows", certificate.output, sizes.output_error))
    lines = [
        Line(name, one, _tightness(one, truth), "these")
        for name, pair, truth in pairs
        for one in (pair.lower, pair.upper)
    ]
    record = head.record
    facts = [
        f"Head {head.number}: {n_q} queries, {n_k} keys of width {head.q.shape[1]}, {m} landmarks; "
        f"{head.estimator.title}: {operator.entries} kernel entries of {n_q * n_k} ({head.estimator.source}).",
        f"‖Ŝ − S‖_F about {_told(record['error'])}, {_told(record['relative_error'])} of ‖S‖_F, from "
        f"{certificate.rows} exact rows: {certificate.exact_entries} kernel entries.",
    ]
    if head.has_values:
        facts.append(
            f"‖(Ŝ − S)V‖_F about {_told(record['output_error'])}, {_told(record['relative_output_error'])} of ‖SV‖_F."
        )
    if sizes.error is not None:
        of_values = f", {_told(record['true_relative_output_error'])} of ‖SV‖_F" if head.has_values else ""
        truth = f"{_told(sizes.error)}, {_told(record['true_relative_error'])} of ‖S‖_F{of_values}"
        facts.append(f"The truth, from all rows: {truth}.")
    else:
        facts.append(f"‖S‖_F and ‖SV‖_F are taken from {SIZED_BY} rows, as S is too large to be formed.")
    landmarks = ""
    if isinstance(operator, NystromOperator):
        landmarks = "means of segments of equal length"
        more, told = _of_landmarks(head)
        lines, facts = lines + more, facts + told
    spectrum, sigma, best = _spectrum_of(head)

    def certified(c: int) -> AttentionCertificate:
        return certificate if c == m else _certified(head.q, head.k, head.v, head.estimator, c, head.seed)[1]

    figures: list[tuple[str, Callable[[], Any]]] = []
    if sigma is not None:
        figures.append((spectrum, lambda: pictures.spectrum(sigma, m)))
    numbers = counts(m, min(n_q, n_k), head.estimator.least)
    figures.append(
        (
            "Interval for the error of Ŝ against the number of landmarks.",
            lambda: pictures.intervals({c: certified(c) for c in numbers}),
        )
    )
    return Finding(title, (*facts, *best), tuple(lines), (), landmarks, tuple(figures), (record,))


def _told(x: float | None) -> str:
    return "—" if x is None else f"{x:.4g}"


def _tightness(bound: Bound, truth: float | None) -> float:
    """How far it is from the truth, 1 for equal; infinite where that is not known."""
    from nystrom_numerics.bounds import Side

    if truth is None or bound.value is None:
        return float("inf")
    high, low = (bound.value, truth) if bound.side is Side.UPPER else (truth, bound.value)
    return 1.0 if high == low else float("inf") if low <= 0 else high / low


def _of_landmarks(head: _Head) -> tuple[list[Line], list[str]]:
    """What is known of the paper's form alone: the kernel lifted to PSD, and what its inverse misses."""
    from nystrom_numerics import attention, bounds
    from nystrom_numerics.attention.lift import psd_lift

    operator: Any = head.operator
    lift = psd_lift(head.q, head.k, np.concatenate([operator.query_landmarks, operator.key_landmarks]))
    lines, facts, unknown = [], [], float("inf")
    if operator.pinv is not None:
        f = attention.exact(head.q, operator.key_landmarks, np.eye(head.m))
        b = attention.exact_operator(operator.query_landmarks, head.k).rows(range(head.m))
        inexact = bounds.pinv_error(operator.core, operator.pinv.value, f.T @ f, b @ b.T)
        lines += [
            Line("F(A⁺ − Z)B, backward", inexact.backward, unknown, "the paper's"),
            Line("F(A⁺ − Z)B, naive", inexact.naive, unknown, "the paper's"),
        ]
        facts.append(f"F(A⁺ − Z)B itself has Frobenius norm {inexact.exact:.4g}.")
    lifted = [("block", lift.frobenius), ("entry", lift.largest), ("normalised", lift.normalised)]
    lines += [Line(f"lifted kernel, {name}", one, unknown, "true kernel columns") for name, one in lifted]
    return lines, facts


def _spectrum_of(head: _Head) -> tuple[str, np.ndarray | None, list[str]]:
    """Singular values of S, or of the core where S is too large, and what is to be said of them."""
    from nystrom_numerics.attention import NystromOperator, exact_operator

    q, k, m = head.q, head.k, head.m
    if len(q) * len(k) <= FORMED:
        s = exact_operator(q, k, causal=head.operator.causal).rows(range(len(q)))
        sigma = np.linalg.svd(s, compute_uv=False)
        told = (
            f"The best matrix of rank {m} has the error {np.linalg.norm(sigma[m:]):.4g} (Eckart and Young)."
        )
        return "Singular values of S, in descending order, and where the landmarks end.", sigma, [told]
    if isinstance(head.operator, NystromOperator):
        sigma = np.linalg.svd(head.operator.core, compute_uv=False)
        return "Singular values of the core, as S is too large for its own.", sigma, []
    return "", None, []


def _several(heads: list[_Head], title: str) -> Finding:
    records = tuple(head.record for head in heads)
    first = heads[0]

    def middle(key: str) -> str:
        known = [record[key] for record in records if record[key] is not None]
        return f"{np.median(known):.4g} in the median, {max(known):.4g} at most" if known else "not known"

    facts = [
        f"{len(heads)} heads: {len(first.q)} queries, {len(first.k)} keys of width {first.q.shape[1]}, "
        f"{first.m} landmarks; "
        f"{first.estimator.title}: {first.operator.entries} kernel entries of {len(first.q) * len(first.k)} a head "
        f"({first.estimator.source}).",
        f"‖Ŝ − S‖_F / ‖S‖_F: {middle('relative_error')}.",
    ]
    if first.has_values:
        facts.append(f"‖(Ŝ − S)V‖_F / ‖SV‖_F: {middle('relative_output_error')}.")
    return Finding(title, tuple(facts), (), (), "", (), records)


def _one_head(file: Path, name: str, x: np.ndarray, head: int) -> np.ndarray:
    heads = x.reshape(-1, *x.shape[-2:])
    if head >= len(heads):
        raise UnreadableFileError(f"{file}: no head {head}; array {name} has {len(heads)}, counted from 0")
    found = np.asarray(heads[head], dtype=np.float64)
    require_moderate(file, name, found)
    return found
