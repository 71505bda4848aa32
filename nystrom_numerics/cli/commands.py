"""The commands on a user's own data, and the application that those of a checkout are added to."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from nystrom_numerics.cli.audit import audit
from nystrom_numerics.cli.group import OF_A_CHECKOUT, Commands
from nystrom_numerics.cli.swap import swap

__all__ = ["application"]

out = Console()


def application(
    purpose: str = "how far an approximation is from what it approximates",
    epilog: str | None = f"In a checkout of the repository also: {', '.join(OF_A_CHECKOUT)}.",
) -> typer.Typer:
    """An application with ``audit`` and ``swap``."""
    app = typer.Typer(
        cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    app.callback(help=f"Nyström attention as numerics: {purpose}.", epilog=epilog)(_nystrom)
    app.command()(audit)
    app.command()(swap)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from nystrom_numerics import __version__

        out.print(f"nystrom_numerics {__version__}", highlight=False)
        raise typer.Exit


def _nystrom(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """What comes before the name of a command."""
