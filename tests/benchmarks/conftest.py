"""One readable table a topic, with ratios to the peer in the same run, in place of pytest-benchmark's own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table


@dataclass
class Topic:
    """Measurements of one topic: seconds and facts by case and method; ``peer`` is what ratios are to."""

    peer: str
    note: str
    seconds: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    facts: dict[tuple[str, str], dict[str, str]] = field(default_factory=lambda: defaultdict(dict))


TOPICS: dict[str, Topic] = {}
TABLES: list[Table] = []
RATIOS: dict[str, dict[str, float]] = {}
"""What is kept from release to release beside the topics: of a case, how many times as fast as a peer, by name."""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def timed(benchmark) -> Callable[..., float]:
    """Time ``fn`` with pytest-benchmark and enter it under topic, case and method; gives the median."""

    def run(
        topic: str,
        case: str,
        method: str,
        fn: Callable[[], Any],
        *,
        peer: str,
        note: str = "",
        rounds: int = 9,
        **facts: str,
    ) -> float:
        benchmark.pedantic(fn, rounds=rounds, warmup_rounds=2)
        stats = benchmark.stats.stats
        entry = TOPICS.setdefault(topic, Topic(peer, note))
        entry.seconds[case, method] = (stats.median, stats.iqr)
        entry.facts[case, method].update(facts)
        return stats.median

    return run


def ratio(topic: str, case: str, method: str) -> float:
    """How many times faster than the peer, in this run."""
    entry = TOPICS[topic]
    return entry.seconds[case, entry.peer][0] / entry.seconds[case, method][0]


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """What is kept of a run are ratios within it; seconds of another machine or day say nothing."""
    kept = {case: dict(of_case) for case, of_case in RATIOS.items()}
    for name, topic in TOPICS.items():
        for case, method in topic.seconds:
            if method != topic.peer and (case, topic.peer) in topic.seconds:
                kept.setdefault(f"{name}: {case}", {})[f"{method} / {topic.peer}"] = ratio(name, case, method)
    output_json["ratios"] = kept
    for part, private in (("machine_info", "node"), ("commit_info", "project"), ("commit_info", "branch")):
        output_json[part].pop(private, None)
    output_json["machine_info"].get("cpu", {}).pop("flags", None)
    output_json["benchmarks"] = [
        {"name": one["name"], "stats": one["stats"]} for one in output_json["benchmarks"]
    ]
    for one in output_json["benchmarks"]:
        one["stats"].pop("data", None)


def pytest_benchmark_group_stats(config, benchmarks, group_by):
    return []  # the tables below say it


def pytest_terminal_summary(terminalreporter):
    console = Console(width=118)
    console.print()
    for table in TABLES:
        console.print(table)
    for name, topic in TOPICS.items():
        console.print(_table(name, topic))


def _table(name: str, topic: Topic) -> Table:
    table = Table(title=f"{name} — times faster than: {topic.peer}. {topic.note}", title_justify="left")
    keys = sorted({key for facts in topic.facts.values() for key in facts})
    for column in ("case", "method", "median ms", "± IQR/2", "times faster", *keys):
        table.add_column(column, justify="left" if column in ("case", "method") else "right")
    last = None
    for (case, method), (median, iqr) in topic.seconds.items():
        peer = topic.seconds.get((case, topic.peer))
        times = f"{peer[0] / median:.2f}" if peer else "–"
        facts = [topic.facts[case, method].get(key, "") for key in keys]
        table.add_row(
            case if case != last else "", method, f"{median * 1e3:.2f}", f"{iqr * 500:.2f}", times, *facts
        )
        last = case
    return table
