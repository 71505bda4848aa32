"""The commands of a checkout: run the experiments, write the report, list the claims, check the proofs."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import claims
from experiments.contract import PROFILES, Outcome
from experiments.errors import ExperimentError, RunStoppedError
from nystrom_numerics.cli.commands import application
from nystrom_numerics.cli.errors import UnknownNameError

if TYPE_CHECKING:
    from experiments.engine.store import Damage
    from experiments.report.page import Section

out = Console()
err = Console(stderr=True)

app = application("experiments that put its claims to the test", epilog=None)

_STORE, _REPORT, _PROOFS = "records.jsonl", Path("report/index.html"), Path("report/proofs.html")
_PROOFS_NOTE = (
    "<p>What can be proved, certified or refuted exactly is on "
    '<a href="proofs.html">a page of its own</a>, written by <code>nystrom prove</code>.</p>'
)
_FIGURES = ("png", "svg", "pdf")
_STYLE = {Outcome.SUPPORTED: "bold blue", Outcome.REFUTED: "bold dark_orange", Outcome.UNDECIDED: "bold"}


def _known_claims(names: list[str] | None) -> list[str]:
    valid = claims.names()
    unknown = [name for name in names or () if name not in valid]
    if unknown:
        raise UnknownNameError(f"no claim {', '.join(unknown)}; the claims are {', '.join(valid)}")
    return list(dict.fromkeys(names or valid))


def _known_profile(name: str | None) -> str | None:
    if name is not None and name not in PROFILES:
        raise UnknownNameError(f"no profile {name}; the profiles are {', '.join(PROFILES)}")
    return name


Claims = Annotated[
    list[str] | None, typer.Argument(metavar="CLAIM", help="All by default.", callback=_known_claims)
]
Results = Annotated[Path, typer.Option(metavar="DIR", help="Where the records are kept.")]
Page = Annotated[Path, typer.Option("--report", metavar="FILE", help="Where the page goes.")]


@app.command()
def run(
    names: Claims = None,
    profile: Annotated[
        str, typer.Option(metavar="|".join(PROFILES), help="How much to run.", callback=_known_profile)
    ] = "quick",
    results: Results = Path("results"),
    page: Page = _REPORT,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A running Dask scheduler, in place of a local cluster; its workers have this checkout on PYTHONPATH.",
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of the local cluster.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run recorded cases too; the new records count.")
    ] = False,
) -> None:
    """Run what is not recorded yet, print the verdicts and write the report on all claims.

    The status is 1 if something that could run failed; an input that is not on the machine is no failure.
    """
    from experiments.engine.runner import run_claims

    if scheduler is not None and workers is not None:
        raise typer.BadParameter("a scheduler has its own workers: give --scheduler or --workers, not both")
    chosen = [claims.load(name) for name in names or ()]
    try:
        tally = run_claims(
            chosen,
            profile=profile,
            path=results / _STORE,
            scheduler=scheduler,
            workers=workers,
            fresh=fresh,
            console=err,
        )
    except KeyboardInterrupt as stop:
        raise RunStoppedError("what has run is recorded; the same command goes on from there") from stop
    whole = _tell(names or (), results, page, profile)
    without = f", {tally.absent} lack their input" if tally.absent else ""
    err.print(f"{tally.ran} cases run, {tally.reused} already recorded{without}.")
    if not whole:
        raise typer.Exit(1)


@app.command()
def report(
    names: Claims = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PROFILES),
            help="By default, of each claim that of its newest record.",
            callback=_known_profile,
        ),
    ] = None,
    results: Results = Path("results"),
    page: Page = _REPORT,
) -> None:
    """Print the verdicts of the records and write the report on all claims, running nothing."""
    _tell(names or (), results, page, profile)


@app.command(name="claims")
def list_claims() -> None:
    """List the claims and how many cases each has in each profile."""
    table = Table()
    for column in ("Claim", "Statement", "Source", f"Cases: {', '.join(PROFILES)}"):
        table.add_column(column, overflow="fold", no_wrap=column == "Claim")  # a name is typed as it stands
    for name in claims.names():
        claim = claims.load(name)
        counts = ", ".join(str(len(claim.grid(profile))) for profile in PROFILES)
        table.add_row(name, *map(escape, (claim.CLAIM, claim.SOURCE)), counts, end_section=True)
    out.print(table)


@app.command()
def figure(
    claim: Annotated[str, typer.Argument(metavar="CLAIM")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its ending names the format: png, svg, pdf.")],
    results: Results = Path("results"),
) -> None:
    """Save the figure of a claim as it is in the report."""
    from experiments.engine import store
    from experiments.engine.files import whole
    from experiments.report import page as reporting

    (name,) = _known_claims([claim])
    kind = file.suffix.removeprefix(".")
    if kind not in _FIGURES:
        raise UnknownNameError(f"no format {kind or 'without a name'}; the formats are {', '.join(_FIGURES)}")
    records, _ = store.read(results / _STORE)
    module = claims.load(name)
    (section,) = reporting.sections_of([module], records, {})
    done = [record for record in section.records if record.ok]
    if not done:
        raise ExperimentError(f"no result of {name} is recorded yet; nystrom run {name} makes some")
    with whole(file) as part:
        reporting.draw(module, done, part, kind)


@app.command()
def prove(
    names: Annotated[list[str] | None, typer.Argument(metavar="CLAIM", help="All by default.")] = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help=f"Where the page goes: {_PROOFS} if all are checked."),
    ] = None,
    results: Results = Path("results"),
) -> None:
    """Check the paper's mathematics by machine: proofs, certificates, counterexamples.

    Where a report stands beside the page it is written again, so that either leads to the other.
    """
    from proofs_check import claims as proofs
    from proofs_check.__main__ import main

    unknown = [name for name in names or () if name not in proofs()]
    if unknown:
        raise UnknownNameError(
            f"no proof of {', '.join(unknown)}; nystrom prove without a name checks them all"
        )
    page = page or (None if names else _PROOFS)
    status = main([*(names or ()), *(["--html", str(page)] if page else [])])
    index = None if page is None else page.with_name(_REPORT.name)
    if page is not None and page.name == _PROOFS.name and index is not None and index.exists():
        _write_page(index, *_sections(results, (), None))
    raise typer.Exit(status)


@app.command()
def export(
    results: Results = Path("results"),
    kind: Annotated[
        str, typer.Option("--format", metavar="csv|json|parquet", help="What each file is.")
    ] = "parquet",
) -> None:
    """Write the rows of each claim to a file of its own beside the store."""
    from experiments.engine import store
    from experiments.report.export import FORMATS
    from experiments.report.export import export as exported

    if kind not in FORMATS:
        raise UnknownNameError(f"no format {kind}; the formats are {', '.join(sorted(FORMATS))}")
    records, _ = store.read(results / _STORE)
    for path in exported(records, results, kind):
        out.print(str(path), highlight=False, soft_wrap=True)


def _tell(names: Collection[str], results: Path, page: Path, profile: str | None) -> bool:
    """Print the verdicts of these claims and write the page of all; True if nothing that could run is lacking.

    The profile is that of these claims. The others keep what was last recorded of them, by its own profile.
    """
    sections, damage = _sections(results, names, profile)
    chosen = [section for section, name in zip(sections, claims.names(), strict=True) if name in names]
    _print(chosen, damage, results / _STORE)
    _write_page(page, sections, damage)
    out.print(f"Report: {page}", highlight=False, soft_wrap=True)
    return not any(section.lacking for section in chosen)


def _sections(
    results: Path, names: Collection[str], profile: str | None
) -> tuple[list[Section], Collection[Damage]]:
    """What the page of all claims is made of, those named in this profile, and what the store has lost."""
    from experiments.engine import store
    from experiments.report import page as reporting

    records, damage = store.read(results / _STORE)
    modules = {name: claims.load(name) for name in claims.names()}
    asked = {modules[name].__name__: profile for name in names if profile is not None}
    usual = profile or reporting.last_profile(records)
    return reporting.sections_of(modules.values(), records, asked, usual), damage


def _write_page(page: Path, sections: Collection[Section], damage: Collection[Damage]) -> None:
    from experiments.report import page as reporting

    proofs = [("Proofs", _PROOFS_NOTE)] if page.with_name(_PROOFS.name).exists() else []
    reporting.write(page, sections, damage=damage, extra_sections=proofs)


def _print(sections: Collection[Section], damage: Collection[Damage], path: Path) -> None:
    """The verdicts as a table, then a line for each thing that is amiss or not on this machine."""
    from experiments.report.page import missing

    profiles = ", ".join(dict.fromkeys(section.profile for section in sections))
    table = Table(title=f"Verdicts, profile {profiles}")
    for column in ("Statement", "Verdict", "Because"):
        table.add_column(column, overflow="fold", no_wrap=column == "Verdict")
    for section in sections:
        for verdict in section.verdicts:
            outcome = f"[{_STYLE[verdict.outcome]}]{verdict.outcome.value}[/]"
            table.add_row(_cell(verdict.statement), outcome, _cell(verdict.because), end_section=True)
        for outcome, why in (("INCOMPLETE", section.lacking), ("NOT AVAILABLE", section.unavailable)):
            if why:
                table.add_row(_cell(section.claim), outcome, _cell(why), end_section=True)
    out.print(table)
    for section in sections:
        for failure in section.failures:
            _say(f"{section.name}: {len(failure.cases)} failed: {failure.error.partition(chr(10))[0]}")
    stale = [section.name for section in sections if section.stale]
    if stale:
        _say(f"Stale, made by other code than the present: {', '.join(stale)}")
    for line in damage:
        _say(f"{path}, line {line.line} is damaged: {line.reason}")
    for absence, cases in missing(sections).items():
        _say(f"Not available: {absence.what} ({', '.join(cases)}). To get it: {_here(absence.remedy)}")


def _cell(text: str) -> str:
    """The text for rich to print as it is, its control characters spelt out: a record may hold any."""
    return escape("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


def _say(line: str) -> None:
    err.print(_cell(line), highlight=False, soft_wrap=True)


def _here(remedy: str) -> str:
    """The line with the ``pip`` of the Python that runs, which need not be the first one on the path."""
    pip = Path(sys.executable).with_name("pip")
    if not remedy.startswith("pip ") or not pip.exists():
        return remedy
    return remedy.replace("pip", min(str(pip), os.path.relpath(pip), key=len), 1)
