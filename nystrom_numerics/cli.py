"""The command ``nystrom``. It loads nothing but the standard library until it is called."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; without the packages it needs, say in a line how to get them."""
    try:
        from experiments.commands import app

        app(prog_name="nystrom")
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] in ("nystrom_numerics", "experiments"):
            raise
        sys.exit(
            f"nystrom needs {missing.name}, which is not here: pip install 'nystrom_numerics[experiments]'"
        )
