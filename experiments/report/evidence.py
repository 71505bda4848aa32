"""From counts to verdicts: what a share of cases says of a statement, with its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from experiments.contract import Outcome, Verdict

__all__ = ["bounded", "exact_interval", "majority", "share_interval", "unbeaten"]


def share_interval(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    interval = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def exact_interval(successes: int, trials: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share, which no share makes fail more often."""
    interval = stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def majority(statement: str, holds: Sequence[bool] | np.ndarray, what: str, detail: str = "") -> Verdict:
    """Does it hold in more than half of the cases?  UNDECIDED where the share's interval contains 1/2.

    ``what`` completes "holds in k of n …"; ``detail`` adds numbers.
    """
    count, trials = int(np.sum(holds)), len(holds)
    if trials == 0:
        return Verdict(statement, Outcome.UNDECIDED, f"No {what}.")
    low, high = share_interval(count, trials)
    outcome = Outcome.SUPPORTED if low > 0.5 else Outcome.REFUTED if high < 0.5 else Outcome.UNDECIDED
    share = f"{count} of {trials} {what} (95 % interval of the share {low:.0%} to {high:.0%})"
    return Verdict(statement, outcome, f"Holds in {share}. {detail}".strip())


def unbeaten(statement: str, against: Mapping[str, Sequence[bool]], what: str, detail: str) -> Verdict:
    """Is one at least as good as each rival in more than half of the cases?

    REFUTED as soon as one rival is better in most cases, SUPPORTED if that is excluded for all of them.
    """
    verdicts = {rival: majority(statement, holds, what) for rival, holds in against.items()}
    outcomes = {verdict.outcome for verdict in verdicts.values()}
    outcome = next(o for o in (Outcome.REFUTED, Outcome.UNDECIDED, Outcome.SUPPORTED) if o in outcomes)
    counts = "; ".join(
        f"against {rival} {v.because[0].lower()}{v.because[1:-1]}" for rival, v in verdicts.items()
    )
    return Verdict(statement, outcome, f"{counts[0].upper()}{counts[1:]}. {detail}".strip())


def bounded(statement: str, low: float, high: float, limit: float, because: str) -> Verdict:
    """Is a quantity known to lie in [low, high] at most ``limit``?  UNDECIDED where the limit is inside."""
    outcome = Outcome.SUPPORTED if high <= limit else Outcome.REFUTED if low > limit else Outcome.UNDECIDED
    return Verdict(statement, outcome, because)
