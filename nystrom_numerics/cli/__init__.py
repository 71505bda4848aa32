"""The command ``nystrom``. It loads nothing but the standard library until it is called.

Threads: one a process, unless the environment says otherwise (``OMP_NUM_THREADS``, or a library's own variable,
such as ``OPENBLAS_NUM_THREADS``, which that library puts first).  Experiments run in parallel processes, and an audit
is many factorisations of small matrices: NumPy's, SciPy's and Torch's pools of threads wait for one another by
spinning, so that on shared cores more threads take many times as long.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` takes most of the time before an interrupt ends in a line
    from typing import Any, NoReturn

__all__ = ["INTERRUPTED", "main"]

INTERRUPTED = 130
"""The status of what an interrupt ended, as shells have it: 128 and the number of the signal."""

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The folder that holds the package: a checkout has the experiments beside it, which are never those of elsewhere."""


def main() -> None:
    """Run the command line; an interrupt, from here on, ends it with one line and status 130."""
    try:
        signal.signal(signal.SIGINT, _interrupt_once)
        _run()
    except KeyboardInterrupt:
        print("Stopped: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        # the status stands, while the interpreter takes itself down
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run() -> None:
    """The commands; without the packages that they need, a line that says how to get them."""
    if not os.environ.get("OMP_NUM_THREADS"):
        os.environ["OMP_NUM_THREADS"] = "1"  # read when NumPy and Torch are loaded, and by child processes
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a letter gets its code, and no traceback
            stream.reconfigure(errors="backslashreplace")
    here = os.path.isfile(os.path.join(CHECKOUT, "experiments", "commands.py"))
    try:
        if here:
            _importable(CHECKOUT)
            from experiments.commands import app
        else:
            from nystrom_numerics.cli.commands import application

            app = application()
        app(prog_name="nystrom")
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] in ("nystrom_numerics", "experiments", "proofs_check"):
            raise
        extra = "experiments" if here else "cli"
        sys.exit(f"nystrom needs {missing.name}, which is not here: pip install 'nystrom_numerics[{extra}]'")


def _importable(folder: str) -> None:
    """Put a folder first on the path, of processes that begin later too: workers, and cases that run on their own."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    others = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [folder, *(path for path in others if path not in ("", folder))]
    )


def _interrupt_once(*_: Any) -> NoReturn:
    """What follows the first Ctrl-C is the end of the command; a second one would only spoil it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
