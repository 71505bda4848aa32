"""The report: what the records say of each claim, as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.contract import Absence, Claim, Outcome, Record, Verdict
from experiments.engine.environment import fingerprint
from experiments.errors import describe
from experiments.engine.files import whole
from experiments.engine.store import Damage

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

_PER_CASE = ("profile", "fingerprint", "recorded")
# an index or power in braces after any symbol, or a short one after a norm's bars, a bracket, a lone letter, a capital
_INDEX = re.compile(
    r"(?<=[^\W\d_]|[‖)])(?P<kind>[_^])\{(?P<braced>[^{}<>]{1,20})\}"
    r"|(?:(?<=[‖)])|(?<=(?<![^\W_])[^\W\d_]))(?P<sign>[_^])(?P<bare>[\w∞−+*]{1,3})(?!\w)"
    r"|(?<=[A-Z])(?P<mark>[_^])(?P<one>\w)(?!\w)"
)
_POWER_OF_TEN = re.compile(r"\b(?:1|(?P<digits>\d(?:\.\d+)?))e(?P<minus>[+−-])0*(?P<power>\d+)\b")


@dataclass(frozen=True)
class Failure:
    """An error, and the parameters of the cases that ended in it."""

    error: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """What is known of one claim: its verdicts with what they rest on, or why there are none.

    ``cases`` counts the grid, ``done`` those with a result, ``waiting`` those that have not run; ``absences`` counts
    those that cannot run here by the input they lack. ``stale`` says that other code than the present made the
    records, ``broken`` is the error of a verdict, table or figure that could not be made of them.
    """

    name: str
    profile: str
    title: str
    claim: str
    source: str
    alt: str
    verdicts: tuple[Verdict, ...]
    columns: tuple[str, ...]
    table: tuple[tuple[Any, ...], ...]
    figure: str
    cases: int
    done: int
    waiting: int
    absences: Mapping[Absence, int]
    seconds: float
    failures: tuple[Failure, ...]
    records: tuple[Record, ...]
    stale: bool
    broken: str

    @property
    def lacking(self) -> str:
        """What failed or has not run, so that the verdicts are none or not the last word; empty if nothing."""
        if self.broken:
            return self.broken.partition("\n")[0]
        if not self.cases:
            return "this profile has no case of it"
        if not self.failures and not self.waiting:
            return ""
        return f"{self.done} of {self.cases} cases have a result"

    @property
    def unavailable(self) -> str:
        """Which inputs are not on the machine, and what the verdicts are by; empty if none is missing."""
        if not self.absences:
            return ""
        missing = ", ".join(f"{absence.what} ({count})" for absence, count in self.absences.items())
        rest = "The verdicts rest on what there is." if self.verdicts else "So there is no verdict."
        return f"{sum(self.absences.values())} of {self.cases} cases lack their input: {missing}. {rest}"


def last_profile(records: Iterable[Record], default: str = "quick") -> str:
    """The profile that the newest record was made for."""
    return next((r.environment.get("profile", default) for r in reversed(list(records))), default)


def sections_of(
    claims: Iterable[Claim], records: Sequence[Record], profiles: Mapping[str, str], default: str = "quick"
) -> list[Section]:
    """A section for each claim: by the profile given for its module, or else that of its own newest record."""
    found = []
    for claim in claims:
        name = claim.__name__
        mine = [record for record in records if record.case.claim == name.rpartition(".")[2]]
        found.append(section(claim, mine, profiles.get(name) or last_profile(mine, default)))
    return found


def section(claim: Claim, records: Iterable[Record], profile: str) -> Section:
    """Judge a claim by the newest record of each case of its grid, all from one code; see :func:`_newest`."""
    keys = {case.key for case in claim.grid(profile)}
    newest, lately = _newest(record for record in records if record.case.key in keys)
    done = tuple(record for record in newest.values() if record.ok)
    absent = [record.absent for record in {**newest, **lately}.values() if record.absent is not None]
    code = next((record.environment.get("fingerprint") for record in newest.values()), None)
    verdicts: tuple[Verdict, ...] = ()
    columns: tuple[str, ...] = ()
    table: tuple[tuple[Any, ...], ...] = ()
    figure = broken = ""
    if done:
        try:
            verdicts = tuple(claim.verdicts(done))
            columns, table = cells(claim.table(done))
            figure = _figure(claim, done)
        except (
            Exception
        ) as error:  # a claim's own code, on records that may be few: the page says what failed
            broken = describe(error)
    return Section(
        name=claim.__name__.rpartition(".")[2],
        profile=profile,
        title=claim.TITLE,
        claim=claim.CLAIM,
        source=claim.SOURCE,
        alt=claim.ALT,
        verdicts=verdicts,
        columns=columns,
        table=table,
        figure=figure,
        cases=len(keys),
        done=len(done),
        waiting=len(keys - newest.keys() - lately.keys()),
        absences=Counter(absent),
        seconds=sum(record.seconds for record in newest.values()),
        failures=_failures(record for record in newest.values() if record.error is not None),
        records=tuple(newest.values()),
        stale=code is not None and code != fingerprint(claim.__name__),
        broken=broken,
    )


def _newest(records: Iterable[Record]) -> tuple[dict[str, Record], dict[str, Record]]:
    """The newest record of each case by key, from the code of the newest record, and the same of that code.

    An absence says nothing against a result. Of one code, it counts for cases without one; and where the newest code
    has nothing but absences, the first answer is of the newest code that has a result.
    """
    by_code: dict[str | None, dict[str, Record]] = {}
    for record in records:
        code, key = record.environment.get("fingerprint"), record.case.key
        by_code[code] = kept = by_code.pop(code, {})  # the code of the newest record comes last
        if record.absent is None or key not in kept or not kept[key].ok:
            kept[key] = record
    if not by_code:
        return {}, {}
    *_, lately = codes = list(by_code.values())
    if any(record.absent is None for record in lately.values()):
        return lately, lately
    return next((kept for kept in reversed(codes) if any(r.ok for r in kept.values())), lately), lately


def write(
    path: Path,
    sections: Sequence[Section],
    *,
    damage: Sequence[Damage] = (),
    extra_sections: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    extra_sections
        Titles with HTML that goes in as it is, after the claims; it must be safe and self-contained.
    """
    page = render(sections, damage=damage, extra_sections=extra_sections)
    with whole(path) as part:
        part.write_text(page, encoding="utf-8")


def render(
    sections: Sequence[Section],
    *,
    damage: Sequence[Damage] = (),
    extra_sections: Sequence[tuple[str, str]] = (),
) -> str:
    """The page as text; see :func:`write`."""
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "number": number,
        "duration": duration,
        "is_number": _is_number,
        "typeset": typeset,
        "csv": csv_address,
    }
    return templates.get_template("page.html").render(
        sections=sections,
        profiles=list(dict.fromkeys(item.profile for item in sections)),
        missing=missing(sections),
        without_input=sum(sum(item.absences.values()) for item in sections),
        damage=damage,
        extra_sections=extra_sections,
        environment=environments(record for item in sections for record in item.records),
        counts=[(o, sum(v.outcome is o for s in sections for v in s.verdicts)) for o in Outcome],
        written=datetime.now(timezone.utc),
    )


def missing(sections: Iterable[Section]) -> dict[Absence, dict[str, int]]:
    """Each input that is not on the machine, with the claims that want it and for how many cases."""
    found: dict[Absence, dict[str, int]] = {}
    for item in sections:
        for absence, count in item.absences.items():
            found.setdefault(absence, {})[item.name] = count
    return found


def environments(records: Iterable[Record]) -> dict[str, str]:
    """Each fact of the records' environments, with all values it took; then the time from first to last."""
    values: dict[str, dict[str, None]] = {}
    times: list[str] = []
    for record in records:
        for name, value in record.environment.items():
            values.setdefault(name, {})[value] = None
        times.append(record.environment.get("recorded", ""))
    facts = {name: ", ".join(seen) for name, seen in values.items() if name not in _PER_CASE}
    if times:
        facts["sources (digest)"] = ", ".join(values.get("fingerprint", {}))
        facts["recorded (UTC)"] = " to ".join(sorted({min(times), max(times)}))
    return facts


def number(value: Any) -> str:
    """A cell's text: four significant digits, whole thousands set apart, a dash for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or 9999.5 <= abs(value) < 1e7:
        return f"{value:,.0f}".replace("-", "−")
    return "∞" if value == math.inf else "−∞" if value == -math.inf else f"{value:.4g}".replace("-", "−")


def typeset(text: str) -> Markup:
    """The text, escaped, with indices and powers set as such: ‖S‖_F, AZ_{j+1}, σ^2, 1e-6; other words stay."""
    from markupsafe import Markup, escape

    def one(found: re.Match[str]) -> str:
        tag = "sub" if "_" in found[0] else "sup"
        return f"<{tag}>{found['braced'] or found['bare'] or found['one']}</{tag}>"

    def ten(found: re.Match[str]) -> str:
        before = f"{found['digits']}·" if found["digits"] else ""
        return f"{before}10<sup>{'' if found['minus'] == '+' else '−'}{found['power']}</sup>"

    return Markup(_POWER_OF_TEN.sub(ten, _INDEX.sub(one, str(escape(text)))))


def csv_address(section: Section) -> str:
    """The table as the address of a CSV file, in UTF-8, its numbers unrounded."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(section.columns)
    writer.writerows(section.table)
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(written.getvalue().encode()).decode()}"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def cells(table: pd.DataFrame) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    """Names and Python values of a frame; an index that has a name becomes columns."""
    flat = table.reset_index() if any(name is not None for name in table.index.names) else table
    columns = tuple(" ".join(map(str, c)).strip() if isinstance(c, tuple) else str(c) for c in flat.columns)
    cells = (flat.iloc[:, i].tolist() for i in range(len(columns)))
    return columns, tuple(zip(*cells, strict=True))


@contextmanager
def style(claim: Claim) -> Iterator[None]:
    """The report's style of figures, while one is made and saved."""
    import matplotlib as mpl

    mpl.use("Agg")
    import seaborn as sns

    wanted = {**sns.axes_style("whitegrid"), **sns.plotting_context("notebook"), "svg.hashsalt": claim.TITLE}
    wanted["figure.constrained_layout.use"] = True
    wanted["axes.prop_cycle"] = mpl.cycler(color=sns.color_palette("colorblind"))
    with mpl.rc_context(wanted):
        yield


def draw(claim: Claim, records: Sequence[Record], file: Path | io.BytesIO, kind: str) -> None:
    """Save the claim's figure in the style of the report; ``kind`` is what matplotlib calls the format."""
    with style(claim):
        import matplotlib.pyplot as plt

        figure = claim.plot(records)
        undated = {"Date": None} if kind == "svg" else None
        figure.savefig(file, format=kind, dpi=110, bbox_inches="tight", metadata=undated)
    plt.close(figure)


def _figure(claim: Claim, records: Sequence[Record]) -> str:
    """The figure as a data address of an SVG, whose text is outlines: it looks the same everywhere."""
    drawn = io.BytesIO()
    draw(claim, records, drawn, "svg")
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}"


def _failures(records: Iterable[Record]) -> tuple[Failure, ...]:
    """Failed cases, those with the same first line of their error together."""
    together: dict[str, list[Record]] = {}
    for record in records:
        together.setdefault(str(record.error).partition("\n")[0], []).append(record)
    return tuple(
        Failure(str(group[0].error), tuple(_named(record) for record in group)) for group in together.values()
    )


def _named(record: Record) -> str:
    parameters = ", ".join(f"{name} = {value}" for name, value in record.case.params.items())
    return f"{parameters}, seed {record.case.seed}" if record.case.seed else parameters
