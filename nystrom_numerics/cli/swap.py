"""``nystrom swap FOLDER``: how far each head of a model is from its own attention, before anything is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from nystrom_numerics.cli.auditing.output import require_writable, visible, write
from nystrom_numerics.cli.errors import UnknownNameError

__all__ = ["swap"]

out = Console()
err = Console(stderr=True)


def swap(
    folder: Annotated[
        Path, typer.Argument(metavar="MODEL_FOLDER", help="As `save_pretrained` of transformers writes it.")
    ],
    text: Annotated[Path | None, typer.Option(metavar="FILE", help="A text, UTF-8.")] = None,
    audio: Annotated[Path | None, typer.Option(metavar="FILE", help="Speech, WAV.")] = None,
    ids: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Numbers of tokens, .npy or JSON, a row a text.")
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Give it again for several: tangent, causal, paper, near_field or any other that is registered.",
            show_default="tangent and causal",
        ),
    ] = None,
    m: Annotated[
        list[int] | None,
        typer.Option("--landmarks", "-m", min=1, help="Give it again for several.", show_default="64"),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=9, help="At most so many.", show_default="the model's context")
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(min=0, help="Choose each head's budget so that its error is at most this."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Save the model with these budgets; needs --error.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the rows that are looked at.")] = 0,
    html: Annotated[Path | None, typer.Option(metavar="PAGE", help="Write a page as well.")] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers as JSON as well.")
    ] = None,
    as_csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write a line a head as CSV as well.")
    ] = None,
) -> None:
    """Hold each head of a model against its own attention, on a text or speech of yours; nothing is replaced.

    For every head the relative error of ŜV, for every estimator the kernel entries that it takes and the drift of the
    model's output.  With --error also the least budget of each head that meets it, and with --save a model that has
    these budgets in its configuration.
    """
    from nystrom_numerics.attention import ESTIMATORS

    given = {
        kind: file for kind, file in (("text", text), ("audio", audio), ("ids", ids)) if file is not None
    }
    if len(given) != 1:
        raise typer.BadParameter("give one of --text, --audio and --ids")
    if save is not None and error is None:
        raise typer.BadParameter("--save needs --error, which chooses what is saved")
    names = estimator or ["tangent", "causal"]
    unknown = [name for name in names if name not in ESTIMATORS]
    if unknown:
        known = ", ".join(ESTIMATORS)
        raise UnknownNameError(f"no estimator {visible(unknown[0]):.80}; the estimators are {known}")
    ((kind, file),) = given.items()
    files = {
        option: path
        for option, path in (("html", html), ("json", as_json), ("csv", as_csv))
        if path is not None
    }
    for option, path in files.items():
        require_writable(option, path, file)
    if save is not None and save.exists() and (not save.is_dir() or save.samefile(folder)):
        raise typer.BadParameter(f"--save {save}: name another folder")

    from nystrom_numerics.cli.swapping.loading import SwapError, loaded
    from nystrom_numerics.cli.swapping.output import FORMATS, Found, show
    from nystrom_numerics.errors import NystromError
    from nystrom_numerics.integrations.transformers import calibrate, compare

    some = loaded(folder, kind, file, tokens)
    judged = [(name, max(count, ESTIMATORS[name].least)) for name in names for count in m or [64]]
    calibration = None
    try:
        with _told(some.judged, passes=1 + len(judged), what="Comparing"):
            comparison = compare(some.judged, some.inputs, judged, rng=seed)
        if error is not None:
            with _told(some.judged, passes=1, what="Calibrating"):
                inputs = {**some.inputs, **some.beside}
                calibration = calibrate(some.whole, inputs, error=error, dearer=1, rng=seed)
    except NystromError as why:
        raise SwapError(f"{folder}: {why}") from why
    found = Found(f"{type(some.judged).__name__} of {folder.name}", some.told, comparison, calibration)
    show(out, found)
    for option, path in files.items():
        write(option, path, FORMATS[option](found))
        told = "Page" if option == "html" else option.upper()
        out.print(f"{told}: {visible(str(path))}", markup=False, highlight=False, soft_wrap=True)
    if save is not None:
        some.whole.save_pretrained(save)
        out.print(
            f"Model with its budgets: {visible(str(save))}", markup=False, highlight=False, soft_wrap=True
        )


@contextmanager
def _told(model: Any, passes: int, what: str) -> Iterator[None]:
    """Show how many layers of how many are done."""
    from nystrom_numerics.integrations.transformers.budgets import attentions

    layers = [module for _, name, module in attentions(model) if hasattr(module, "is_causal")]
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task(what, total=passes * len(layers) or None)
        hooks = [layer.register_forward_hook(lambda *_: progress.advance(task)) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
