"""The command ``nystrom``. It loads nothing but the standard library until it is called."""

from __future__ import annotations

import signal
import sys
from typing import Any, NoReturn


def main() -> None:
    """Run the command line; without the packages it needs, say in a line how to get them."""
    signal.signal(signal.SIGINT, _interrupt_once)
    try:
        from experiments.commands import app

        app(prog_name="nystrom")
    except KeyboardInterrupt:
        sys.exit("Stopped: interrupted")
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] in ("nystrom_numerics", "experiments"):
            raise
        sys.exit(
            f"nystrom needs {missing.name}, which is not here: pip install 'nystrom_numerics[experiments]'"
        )


def _interrupt_once(*_: Any) -> NoReturn:
    """What follows the first Ctrl-C is the end of the command; a second one would only spoil it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
