"""How many instances, draws or interruptions a test takes: all with ``make test THOROUGH=1``, fewer else."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")


def many(thorough: T, quick: T) -> T:
    return thorough if os.environ.get("THOROUGH") else quick
