"""One process of Coq, spoken to a command at a time, so that a proof is left at its first error.

What a command may take is counted in processor time, which does not grow where others share the machine.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

__all__ = ["Session", "commands", "session"]

_PROMPT = b"</prompt>"
_BULLETS = re.compile(r"((?:[-+*{}]+\s+)*)(.*)", re.S)
_CLEAN = re.compile(r"<prompt>.*?</prompt>", re.S)
_EVERY = 0.5
"""Seconds between two looks at the processor time."""


def commands(proof: str) -> Iterator[str]:
    """The sentences of a proof, bullets by themselves."""
    for sentence in re.split(r"(?<=\.)\s+", proof.strip()):
        bullets, rest = _BULLETS.fullmatch(sentence).groups()  # type: ignore[union-attr]
        yield from bullets.split()
        yield rest


class Session:
    """Of ``coqtop``; see :func:`session`."""

    def __init__(self, process: subprocess.Popen[bytes], patience: float) -> None:
        self._process, self._patience = process, patience
        self._told = psutil.Process(process.pid)
        self._waiting = selectors.DefaultSelector()
        assert process.stdout is not None
        self._waiting.register(process.stdout, selectors.EVENT_READ)
        self._until_prompt(float("inf"))

    @property
    def seconds(self) -> float:
        """Processor time so far."""
        times = self._told.cpu_times()
        return float(times.user + times.system)

    def run(self, command: str, limit: float = float("inf")) -> str:
        """What Coq answers; its error, or that it was stopped after ``limit`` seconds of processor time, else ""."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{' '.join(command.split())}\n".encode())
        self._process.stdin.flush()
        answer, late = self._until_prompt(limit)
        if late:
            return f"no answer within {limit:.0f} s"
        found = re.search(r"^Error:(.*)", answer, re.M | re.S)
        return "" if found is None else " ".join(found[1].split())[:300] or "no proof"

    def prove(self, statement: str, proof: str, limit: float = float("inf")) -> str:
        """The first error of a proof, or "" where it proves the statement; nothing of it is kept."""
        end = self.seconds + limit
        try:
            for command in (f"Goal {statement}.", *commands(proof)):
                error = self.run(command, end - self.seconds)
                if error:
                    return error
            return ""
        finally:
            self.run("Abort All.")

    def _until_prompt(self, limit: float) -> tuple[str, bool]:
        assert self._process.stdout is not None
        answer, begun, end, late = b"", time.monotonic(), self.seconds + limit, False
        while not answer.rstrip().endswith(_PROMPT):
            if self._waiting.select(_EVERY):
                part = os.read(self._process.stdout.fileno(), 65536)
                if not part:
                    raise TimeoutError("Coq ended")
                answer += part
            elif time.monotonic() - begun > self._patience:
                raise TimeoutError(f"no answer within {self._patience:.0f} s")
            elif not late and self.seconds > end:
                late = True
                self._process.send_signal(signal.SIGINT)
        return _CLEAN.sub("", answer.decode("utf-8", "replace")), late


@contextmanager
def session(target: Path, namespace: str, patience: float) -> Iterator[Session]:
    """Coq with the compiled files of a folder; ``patience`` are the seconds after which a command is given up."""
    arguments = ["coqtop", "-q", "-emacs", "-w", "none", "-Q", str(target), namespace]
    with subprocess.Popen(
        arguments, cwd=target, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            made = Session(process, patience)
            made.run("Set Silent.")
            yield made
        finally:
            process.kill()
