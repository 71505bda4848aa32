"""A sample of a finished quick run: some cases of every claim and input, some of their rows, three digits of a number.

``python -m tests.experiments.sample results/records.jsonl`` makes it anew where a claim's rows have changed.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

from experiments.contract import Record
from experiments.engine import store

FILE = Path(__file__).with_suffix(".jsonl.gz")

CASES = {
    "bound_tightness": lambda p: True,
    "language_model": lambda p: True,
    "landmark_ranking": lambda p: p["rule"] in ("uniform", "k-means", "RPCholesky"),
    "pinv_convergence": lambda p: p.get("layer", 0) < 2,
    "certified_width": lambda p: True,
    "segment_means": lambda p: True,
    "chosen_budgets": lambda p: True,
    "tangent_parts": lambda p: True,
    "equal_entries": lambda p: True,
}
ROWS = {
    "landmark_error": lambda row: row["m"] in (16, 64) and row.get("seed", 0) == 0,
    "bound_tightness": lambda row: row["m"] in (16, 64) and row["rule"] in ("uniform", "RPCholesky"),
    "estimators": lambda row: row["m"] in (64, 128) and row["head"] in (0, 2),
    "landmark_ranking": lambda row: row["m"] in (16, 120) and row["draw"] < 2,
    "language_model": lambda row: row.get("head", 0) < 4,
    "pinv_filters": lambda row: row["head"] == 0,
    "swapped_models": lambda row: row.get("head", 0) < 4,
    "real_models": lambda row: row.get("review", 0) < 3,
}


def sample() -> list[Record]:
    """The records of the sample."""
    return [store.decode(line) for line in gzip.open(FILE)]


def _make(path: Path) -> None:
    newest = {record.case.key: record for record in store.read(path)[0] if record.ok}
    with FILE.open("wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as file:
        for record in newest.values():
            name, case = record.case.claim, record.case
            if CASES.get(name, lambda p: p.get("layer", 0) in (0, 3))(case.params):
                rows = filter(ROWS.get(name), record.rows) if name in ROWS else record.rows
                facts = {"fingerprint": "0" * 16, "profile": "quick"}
                short = tuple({key: _short(value) for key, value in row.items()} for row in rows)
                file.write(store.encode(Record(case, short, None, round(record.seconds, 2), facts)))


def _short(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    _make(Path(sys.argv[1]))
