"""A group of commands, each of which ends in a result, in a line or in a fault of the code."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from nystrom_numerics.cli import INTERRUPTED
from nystrom_numerics.cli.errors import CommandError
from nystrom_numerics.errors import NotInstalledError

__all__ = ["OF_A_CHECKOUT", "Commands"]

OF_A_CHECKOUT = ("run", "report", "claims", "figure", "prove", "export")
"""Commands of experiments and proofs, which are no part of the installed package."""

err = Console(stderr=True)


class Commands(TyperGroup):
    """What cannot go on ends with a line and a status; tracebacks are of faults of the code."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        with _in_one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        with _in_one_line():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name in OF_A_CHECKOUT and name not in self.commands:
            raise CommandError(
                f"nystrom {name} is of the experiments and proofs, which are not installed: "
                f"in a checkout of the repository, python -m experiments {name}"
            )
        return super().resolve_command(ctx, args)


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        _stop("interrupted", stop, INTERRUPTED)
    except CommandError as error:
        _stop(str(error), error, error.code)
    except NotInstalledError as error:
        _stop(str(error), error)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe has seen enough
            raise
        _stop(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), error)


def _stop(why: str, cause: BaseException, code: int = 1) -> NoReturn:
    err.print(f"[bold]Stopped:[/] {escape(' '.join(why.split()))}", highlight=False, soft_wrap=True)
    raise typer.Exit(code) from cause
