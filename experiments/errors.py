"""What can stop an experiment, each with its remedy in the message."""


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
