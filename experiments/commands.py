"""The commands of ``nystrom``: run the experiments, write the report, list the claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments import audit_command, claims
from experiments.contract import PROFILES, Claim, Outcome
from experiments.errors import ExperimentError, NoDeviceError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
out = Console()
err = Console(stderr=True)

_STORE, _REPORT, _PROOFS = "records.jsonl", Path("report/index.html"), Path("report/proofs.html")
_PROOFS_NOTE = (
    "<p>What can be proved, certified or refuted exactly is on "
    '<a href="proofs.html">a page of its own</a>, written by <code>nystrom prove</code>.</p>'
)
_STYLE = {Outcome.SUPPORTED: "bold blue", Outcome.REFUTED: "bold dark_orange", Outcome.UNDECIDED: "bold"}


def _known_claims(names: list[str] | None) -> list[str]:
    valid = claims.names()
    unknown = [name for name in names or () if name not in valid]
    if unknown:
        raise typer.BadParameter(f"no claim {', '.join(unknown)}; the claims are {', '.join(valid)}")
    return list(dict.fromkeys(names or valid))


def _known_profile(name: str | None) -> str | None:
    if name is not None and name not in PROFILES:
        raise typer.BadParameter(f"no profile {name}; the profiles are {', '.join(PROFILES)}")
    return name


def _version(wanted: bool) -> None:
    if wanted:
        from nystrom_numerics import __version__

        out.print(f"nystrom_numerics {__version__}", highlight=False)
        raise typer.Exit


Claims = Annotated[
    list[str] | None, typer.Argument(metavar="CLAIM", help="All by default.", callback=_known_claims)
]
Results = Annotated[Path, typer.Option(metavar="DIR", help="Where the records are kept.")]
Page = Annotated[Path, typer.Option("--report", metavar="FILE", help="Where the page goes.")]


@app.callback()
def nystrom(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Nyström attention as numerics: experiments that put its claims to the test."""


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
        typer.Option(metavar="ADDRESS", help="A running Dask scheduler, in place of a local cluster."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes of the local cluster.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run recorded cases too; the new records count.")
    ] = False,
) -> None:
    """Run what is not recorded yet, then write the report and print the verdicts."""
    from experiments.runner import run_claims

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
    except ExperimentError as error:
        err.print(f"[bold]Stopped:[/] {escape(str(error))}")
        raise typer.Exit(2 if isinstance(error, NoDeviceError) else 1) from error
    except KeyboardInterrupt as stop:
        err.print("Stopped. What has run is recorded; the same command goes on from there.")
        raise typer.Exit(130) from stop
    if not _tell(chosen, results, page, profile):
        raise typer.Exit(1)
    err.print(f"{tally.ran} cases run, {tally.reused} already recorded.")


@app.command()
def report(
    names: Claims = None,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PROFILES), help="By default that of the newest record.", callback=_known_profile
        ),
    ] = None,
    results: Results = Path("results"),
    page: Page = _REPORT,
) -> None:
    """Write the report from the records, running nothing, and print the verdicts."""
    _tell([claims.load(name) for name in names or ()], results, page, profile)


app.command()(audit_command.audit)


@app.command(name="claims")
def list_claims() -> None:
    """List the claims and how many cases each has in each profile."""
    table = Table("Claim", "Statement", "Source", *(f"Cases, {name}" for name in PROFILES))
    for name in claims.names():
        claim = claims.load(name)
        counts = (str(len(claim.grid(profile))) for profile in PROFILES)
        table.add_row(name, *map(escape, (claim.CLAIM, claim.SOURCE)), *counts)
    out.print(table)


@app.command()
def figure(
    claim: Annotated[str, typer.Argument(metavar="CLAIM")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Its ending names the format: png, svg, pdf.")],
    results: Results = Path("results"),
) -> None:
    """Save the figure of a claim as it is in the report."""
    from experiments import report as reporting
    from experiments import store

    (name,) = _known_claims([claim])
    records, _ = store.read(results / _STORE)
    module = claims.load(name)
    done = reporting.section(module, records, reporting.last_profile(records)).records
    if not done:
        err.print(f"No record of {name} yet: nystrom run {name} makes them.")
        raise typer.Exit(1)
    reporting.draw(module, done, file, file.suffix.removeprefix("."))


@app.command()
def prove(
    names: Annotated[list[str] | None, typer.Argument(metavar="CLAIM", help="All by default.")] = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help=f"Where the page goes: {_PROOFS} if all are checked."),
    ] = None,
) -> None:
    """Check the paper's mathematics by machine: proofs, certificates, counterexamples."""
    from proofs_check.__main__ import main

    page = page or (None if names else _PROOFS)
    raise typer.Exit(main([*(names or ()), *(["--html", str(page)] if page else [])]))


@app.command()
def export(results: Results = Path("results")) -> None:
    """Write the records of each claim to a Parquet file beside the store."""
    from experiments import store

    records, _ = store.read(results / _STORE)
    for path in store.export(records, results):
        out.print(str(path), highlight=False, soft_wrap=True)


def _tell(chosen: Sequence[Claim], results: Path, page: Path, profile: str | None) -> bool:
    """Write the page, print the verdicts; True if nothing is lacking."""
    from experiments import report as reporting
    from experiments import store

    records, damage = store.read(results / _STORE)
    profile = profile or reporting.last_profile(records)
    sections = [reporting.section(claim, records, profile) for claim in chosen]
    proofs = [("Proofs", _PROOFS_NOTE)] if (page.parent / _PROOFS.name).exists() else []
    reporting.write(page, sections, profile=profile, damage=damage, extra_sections=proofs)
    table = Table("Statement", "Verdict", "Because", title=f"Verdicts, profile {profile}")
    for section in sections:
        for verdict in section.verdicts:
            outcome = f"[{_STYLE[verdict.outcome]}]{verdict.outcome.value}[/]"
            table.add_row(escape(verdict.statement), outcome, escape(verdict.because), end_section=True)
        if section.lacking:
            table.add_row(escape(section.claim), "INCOMPLETE", escape(section.lacking), end_section=True)
    out.print(table)
    for section in sections:
        for failure in section.failures:
            err.print(f"{section.name}: {len(failure.cases)} failed: {escape(failure.error.splitlines()[0])}")
    for line in damage:
        err.print(f"{results / _STORE}, line {line.line} is damaged: {escape(line.reason)}")
    out.print(f"Report: {page}", highlight=False, soft_wrap=True)
    return not any(section.lacking for section in sections)
