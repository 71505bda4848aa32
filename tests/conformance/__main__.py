"""All families of the installed transformers, and the table of what is served and refused: docs/conformance.md."""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from pathlib import Path

import transformers

from tests.conformance import families, pairs

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
HEAD = """# Which models of transformers are served

Made by `make conformance` with transformers {version}: every family whose attention goes through the attention
interface, in small random configurations; without padding, padded left and right, with dynamic and static caches, by
`generate`, and with fewer landmarks than tokens.  *Served*: with as many landmarks as tokens the output is that of
eager attention to 1e-5 in float32.  *Refused*: a typed error names what was asked.  *Wrong*: neither.

{counts}.

| family | served | refused | wrong | not run | refused for, or not run because of |
|---|---|---|---|---|---|
"""


def row(report: families.Report) -> tuple[Counter[str], str]:
    """The verdicts of a family, and its line of the table."""
    outcomes = [one for several in report.outcomes.values() for one in several]
    verdicts = Counter(one.verdict for one in outcomes)
    why = Counter(one.detail for one in outcomes if one.verdict != "served" and one.detail)
    reason = " · ".join(text.replace("|", "/").replace("\n", " ")[:140] for text, _ in why.most_common(2))
    counts = " | ".join(str(verdicts[name]) for name in ("served", "refused", "wrong", "absent"))
    return verdicts, f"| {report.family} | {counts} | {reason} |"


def main() -> int:
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    pairs.register()
    total: Counter[str] = Counter()
    lines = []
    for family in families.modules():
        verdicts, line = row(families.report(family))
        total += verdicts
        lines.append(line)
        print(line, flush=True)
    counts = f"{len(lines)} families: " + ", ".join(
        f"{total[verdict]} cases {word}"
        for verdict, word in (
            ("served", "served"),
            ("refused", "refused"),
            ("wrong", "wrong"),
            ("absent", "not run"),
        )
    )
    PAGE.write_text(
        HEAD.format(version=transformers.__version__, counts=counts) + "\n".join(lines) + "\n", "utf-8"
    )
    print(counts)
    return 1 if total["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
