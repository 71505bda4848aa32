"""``nystrom audit FILE``: every bound for a matrix, points or heads of attention, on the terminal and in files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape

from nystrom_numerics.cli.auditing.finding import Finding, Options, require_moderate
from nystrom_numerics.cli.auditing.heads import DEFAULT_ESTIMATOR, of_attention
from nystrom_numerics.cli.auditing.matrices import DEFAULT_RULE, noise_of, of_matrix
from nystrom_numerics.cli.auditing.output import FORMATS, require_writable, show, visible, write
from nystrom_numerics.cli.errors import CommandError
from nystrom_numerics.cli.matrix_files import Stored, UnreadableFileError, read_arrays

__all__ = ["audit"]

out = Console()
err = Console(stderr=True)


def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".npy, .npz, .mtx or .safetensors.")],
    m: Annotated[int, typer.Option("--landmarks", "-m", min=1, help="How many landmarks.")] = 64,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a matrix or points, how they are chosen: kdpp, kmeans, leverage or any other that is registered.",
            show_default=DEFAULT_RULE,
        ),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(min=0, help="The array is points of a Gaussian kernel exp(−γ‖x−y‖²).")
    ] = None,
    array: Annotated[str | None, typer.Option(metavar="NAME", help="Which array of the file.")] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="N|all", help="Of q, k and v with leading axes, which head, or all.", show_default="0"
        ),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of q, k and v: exact, nystrom, tangent, near_field, causal or any other that is registered.",
            show_default=DEFAULT_ESTIMATOR,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the landmarks and of probes.")] = 0,
    html: Annotated[Path | None, typer.Option(metavar="PAGE", help="Write a page as well.")] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers as JSON as well.")
    ] = None,
    as_csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write a line a head, or a bound, as CSV as well."),
    ] = None,
) -> None:
    """Hold every bound on the error of a Nyström approximation against the truth.

    FILE holds a symmetric PSD matrix, points (with --gamma), or q, k and v.  It is read as data, never run.  A
    matrix counts as PSD to the rounding of the format it is stored in.  Of q, k and v it says how far an estimator is
    from exact attention, in sampled rows, and in truth where the matrix is small enough to be formed.
    """
    from nystrom_numerics.errors import NystromError
    from nystrom_numerics.landmarks import RULES

    if rule is not None and rule not in RULES:
        raise typer.BadParameter(f"no rule {rule}; the rules are {', '.join(RULES)}")
    if head is not None and head != "all" and not (head.isascii() and head.isdigit() and len(head) < 10):
        raise typer.BadParameter(f"no head {visible(head):.80}; give a number from 0 on, or all")
    asked = Options(m, rule, gamma, array, head, estimator, seed)
    files = {
        option: path
        for option, path in (("html", html), ("json", as_json), ("csv", as_csv))
        if path is not None
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what is not finite is refused, by name
            warnings.showwarning = _told  # type: ignore[assignment]
            for option, path in files.items():
                require_writable(option, path, file)
            found = _audited(read_arrays(file), file, asked)
            texts = {option: FORMATS[option](found) for option in files}
        for option, path in files.items():
            write(option, path, texts[option])
    except (CommandError, NystromError) as error:
        raise _stopped(str(error)) from error
    except MemoryError as error:
        raise _stopped(f"{file}: takes more memory than there is") from error
    except np.linalg.LinAlgError as error:
        raise _stopped(f"{file}: {error}: its numbers are too far apart") from error
    show(out, found)
    for option, path in files.items():
        told = "Page" if option == "html" else option.upper()
        out.print(f"{told}: {visible(str(path))}", markup=False, highlight=False, soft_wrap=True)


def _told(message: Warning | str, *_: Any) -> None:
    """A line for a warning, such as of what takes long, when it comes."""
    err.print(f"[bold]Note:[/] {escape(visible(str(message)))}", highlight=False, soft_wrap=True)


def _stopped(reason: str) -> typer.Exit:
    """One line on the terminal, whatever a name in it holds, and status 1."""
    err.print(f"[bold]Stopped:[/] {escape(visible(reason))}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


def _audited(arrays: dict[str, Stored], file: Path, asked: Options) -> Finding:
    if asked.array is None and {"q", "k"} <= set(arrays):
        asked.refuse(
            "q, k and v",
            rule="landmarks are means of segments",
            gamma="the kernel is softmax, scaled by the width; --array names points",
        )
        return of_attention(arrays, file, asked)
    asked.refuse("a matrix or points", head="it is of q, k and v", estimator="it is of q, k and v")
    if asked.array is None and len(arrays) > 1:
        raise UnreadableFileError(f"{file}: holds {_listed(arrays)}; choose one with --array")
    name = asked.array if asked.array is not None else next(iter(arrays))
    if name not in arrays:
        raise UnreadableFileError(
            f"{file}: no array {name:.80} of real floating numbers; it holds {_listed(arrays)}"
        )
    stored, roundoff = arrays[name]
    if stored.ndim != 2:
        raise UnreadableFileError(f"{file}: array {name:.80} has shape {stored.shape}; two axes are needed")
    from nystrom_numerics import kernels
    from nystrom_numerics.bounds.audit import LARGEST

    if len(stored) > LARGEST:
        raise UnreadableFileError(
            f"{file}: array {name:.80} has {len(stored)} rows; an audit forms the matrix, of {LARGEST} rows at most"
        )
    x = np.asarray(stored, dtype=np.float64)
    gamma = asked.gamma
    if gamma is not None:
        require_moderate(file, name, x)
        title = f"{file.name}: Gaussian kernel, γ = {gamma:g}"
        return of_matrix(kernels.gaussian(x, gamma=gamma), title, asked)
    if x.shape[0] != x.shape[1]:
        raise UnreadableFileError(
            f"{file}: array {name:.80} of shape {x.shape} is no square matrix; for points give --gamma"
        )
    return of_matrix(
        kernels.precomputed(x, noise=noise_of(roundoff)), f"{file.name}: matrix {name:.80}", asked
    )


def _listed(names: Iterable[str]) -> str:
    """Names of arrays, the first few of many."""
    all_names = list(names)
    shown = ", ".join(f"{name:.80}" for name in all_names[:8])
    return shown if len(all_names) <= 8 else f"{shown} and {len(all_names) - 8} more"
