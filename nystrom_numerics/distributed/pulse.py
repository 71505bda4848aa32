"""Which rank has died: every rank shows in the store of its group that it lives, and how far it has come."""

from __future__ import annotations

import atexit
import threading
import time
from typing import Any

from nystrom_numerics.errors import RankError

__all__ = ["BEAT", "PATIENCE", "Pulse"]

BEAT, PATIENCE = 0.5, 4.0
"""Seconds between two signs of life, and without one after which a rank counts as dead."""


class Pulse:
    """A thread that writes a number into the store of the group every :data:`BEAT` seconds.

    Whether a rank lives is asked only once something has failed: a rank that is late is not taken for dead, however
    late it is, unless what it owes has met the timeout of the group, or its connection has closed.

    Attributes
    ----------
    step : int
        Collectives that this rank has begun.
    """

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self.rank, self.size, self.step = rank, size, 0
        # a connection of its own: one that waits in the store must not silence another
        self._store = store.clone() if hasattr(store, "clone") else store
        self._stop = threading.Event()
        self._write(0)
        self._thread = threading.Thread(target=self._beat, name="nystrom_numerics pulse", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the thread, before the interpreter does."""
        self._stop.set()
        self._thread.join(2 * BEAT)

    def _beat(self) -> None:
        beat = 0
        while not self._stop.wait(BEAT):
            beat += 1
            try:
                self._write(beat)
            except Exception:  # the group is gone, or the rank that kept its store
                return

    def _write(self, beat: int) -> None:
        self._store.set(f"pulse/{self.rank}", f"{beat} {self.step}")

    def blame(self, doing: str, error: Exception) -> RankError:
        """The error to raise for one of the backend, after at most :data:`PATIENCE` seconds.

        The first rank that looks writes down whom it found, so that the others do not name those who left because of
        it.
        """
        try:
            self._write(-1)
            first = self._seen()
            if self._store.check(["culprits"]):
                found = self._store.get("culprits").decode()
            else:
                found = self._still(first)
                if found:
                    found = self._store.compare_set("culprits", "", found).decode()
            steps = {rank: int(said.split()[1]) for rank, said in first.items() if said}
        except Exception:
            return RankError(
                f"while {doing}, the store of the process group does not answer: the process that keeps it, rank 0 or "
                f"what started the ranks, has died ({_line(error)})",
                (0,),
            )
        if found:
            dead = tuple(int(rank) for rank in found.split(","))
            return RankError(
                f"{_named(dead)} of {self.size} died or stopped, seen while {doing} ({_line(error)})", dead
            )
        late = tuple(rank for rank, step in steps.items() if step < self.step)
        if late:
            return RankError(
                f"{_named(late)} of {self.size} lives but has not come to what the others wait in, {doing}: the ranks "
                f"do not call the same functions in the same order ({_line(error)})",
                late,
            )
        return RankError(f"while {doing}: {_line(error)}; every rank lives", ())

    def _seen(self) -> dict[int, str]:
        found = {}
        for rank in range(self.size):
            key = f"pulse/{rank}"
            found[rank] = self._store.get(key).decode() if self._store.check([key]) else ""
        return found

    def _still(self, first: dict[int, str]) -> str:
        """The ranks, in words of the store, whose pulse does not change for as long as patience lasts."""
        still = {rank for rank in first if rank != self.rank}
        until = time.monotonic() + PATIENCE
        while still and time.monotonic() < until:
            time.sleep(BEAT)
            now = self._seen()
            still = {rank for rank in still if now[rank] == first[rank]}
        return ",".join(map(str, sorted(still)))


def _named(ranks: tuple[int, ...]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
