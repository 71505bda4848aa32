"""What can stop an experiment, each with its remedy in the message."""

import traceback

_FRAMES = 3


def describe(error: BaseException) -> str:
    """Type and message of an error on the first line, then the last frames of its traceback."""
    head = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.format_tb(error.__traceback__)[-_FRAMES:]
    return f"{head}\n{''.join(frames)}".rstrip()


class ExperimentError(Exception):
    """An experiment cannot go on; the message says what to do."""


class StoreLockedError(ExperimentError):
    """Another run is writing the same store."""


class StoreWriteError(ExperimentError):
    """A record did not reach the disk whole."""


class MissingInputError(ExperimentError):
    """An input is not there, or is not what the experiment needs."""


class NoDeviceError(ExperimentError):
    """The profile needs a CUDA device and no worker has one."""


class SchedulerError(ExperimentError):
    """The Dask scheduler does not answer, or went away during the run."""


class CodeMismatchError(ExperimentError):
    """A worker runs other sources than the process that asked."""
