"""What can stop an experiment, each with its remedy in the message."""

from __future__ import annotations

import traceback

from nystrom_numerics.cli import INTERRUPTED
from nystrom_numerics.cli.errors import CommandError

_FRAMES = 3
_LONGEST = 20_000


def describe(error: BaseException) -> str:
    """Type and message of an error on the first line, then the last frames of its traceback.

    It is text that any file can hold: what is no character is spelt out, and a long message is cut.
    """
    head = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.format_tb(error.__traceback__)[-_FRAMES:]
    text = f"{head[:_LONGEST]}\n{''.join(frames)}".rstrip()
    return text.encode("utf-8", "backslashreplace").decode()


class ExperimentError(CommandError):
    """An experiment cannot go on; the message says what to do."""


class RunStoppedError(ExperimentError):
    """A run was interrupted by the one who started it."""

    code = INTERRUPTED


class StoreLockedError(ExperimentError):
    """Another run is writing the same store."""


class StoreWriteError(ExperimentError):
    """A record did not reach the disk whole."""


class NotAvailableError(ExperimentError):
    """An input is not on this machine: ``what`` it is, and the ``remedy``, one line that brings it.

    A case that ends in it has not failed: it could not run here, and is tried again by the next run.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        return f"{self.what} is not on this machine: {self.remedy}"


class UnfitInputError(ExperimentError):
    """An input is there, and is not what the experiment needs."""


class NoDeviceError(ExperimentError):
    """The profile needs a CUDA device and no worker has one."""

    code = 2


class SchedulerError(ExperimentError):
    """The Dask scheduler does not answer, or went away during the run."""


class CodeMismatchError(ExperimentError):
    """A worker runs other sources than the process that asked."""
