"""What stops a command: one line that says what to do, and the status that it ends with."""

from __future__ import annotations

__all__ = ["CommandError", "UnknownNameError"]


class CommandError(Exception):
    """A command cannot go on; the message says what to do, and ``code`` is its status."""

    code = 1


class UnknownNameError(CommandError):
    """There is nothing of that name, such as a claim, a profile or an estimator."""
