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
    """Of ``coqtop``; see :func:`session`.

    Every command is followed by one that fails by a word of its own: what comes before that word is the answer, however
    many sentences the command has, and whenever an interruption arrives.
    """

    def __init__(self, process: subprocess.Popen[bytes], patience: float) -> None:
        self._process, self._patience, self._marks = process, patience, 0
        self._told = psutil.Process(process.pid)
        self._waiting = selectors.DefaultSelector()
        assert process.stdout is not None
        self._waiting.register(process.stdout, selectors.EVENT_READ)

    @property
    def seconds(self) -> float:
        """Processor time so far."""
        times = self._told.cpu_times()
        return float(times.user + times.system)

    def run(self, command: str, limit: float = float("inf")) -> str:
        """What Coq answers; its error, or that it was stopped after ``limit`` seconds of processor time, else ""."""
        answer, late = self._answer(" ".join(command.split()), limit)
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

    def _answer(self, command: str, limit: float) -> tuple[str, bool]:
        """What is said before the word that stands behind the command, and whether it had to be interrupted."""
        assert self._process.stdout is not None
        mark = self._send(command)
        answer, begun, end, late = b"", time.monotonic(), self.seconds + limit, False
        while not (mark in answer and answer.rstrip().endswith(_PROMPT)):
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
                mark = self._send("")  # the word before may be what is interrupted
        text = _CLEAN.sub("", answer.decode("utf-8", "replace"))
        return text.partition(f"> Check {mark.decode()}")[0].rpartition("Toplevel input")[0], late

    def _send(self, command: str) -> bytes:
        """A command and a word behind it."""
        assert self._process.stdin is not None
        self._marks += 1
        mark = f"word_{self._marks}_of_no_meaning".encode()
        self._process.stdin.write(command.encode() + b"\nCheck " + mark + b".\n")
        self._process.stdin.flush()
        return mark


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
