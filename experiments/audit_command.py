"""``nystrom audit FILE``: every bound for a matrix, points or a head of attention, on the terminal and as a page."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.errors import ExperimentError
from experiments.matrix_files import Stored, UnreadableFileError, read_arrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nystrom_numerics.bounds import Audit
    from nystrom_numerics.kernels import Kernel

__all__ = ["audit"]

out = Console()
err = Console(stderr=True)

COLUMNS = ("Bound", "Norm", "Side", "Value", "Over the truth", "Certainty", "Landmarks", "Vacuous", "Source")

Drawing: TypeAlias = "Callable[[], Figure]"


class AuditError(ExperimentError):
    """A file that can be read, and asks for what no audit does."""


@dataclass(frozen=True)
class Finding:
    """What an audit found, as the terminal and the page show it.

    ``facts`` are lines of text, ``rows`` cells under :data:`COLUMNS`, ``failed`` bounds without a number and why,
    ``figures`` pairs of a text in place of the picture and what draws it, called for a page alone.
    """

    title: str
    facts: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    failed: tuple[str, ...]
    landmarks: str
    figures: tuple[tuple[str, Drawing], ...]


@dataclass(frozen=True)
class Options:
    """What was asked for; ``None`` where nothing was."""

    m: int
    rule: str | None
    gamma: float | None
    array: str | None
    head: int | None
    seed: int

    def refuse(self, kind: str, **others: str) -> None:
        """Refuse the options named, which have no meaning for this kind of file, with what takes their place."""
        for name, why in others.items():
            if getattr(self, name) is not None:
                raise AuditError(f"--{name} does not go with {kind}: {why}")


RULES: dict[str, str] = {
    "rpcholesky": "randomly pivoted Cholesky",
    "pivoted_cholesky": "greedily pivoted Cholesky",
    "ridge_leverage": "ridge leverage scores",
    "farthest_point": "farthest points in the kernel's metric",
    "kdpp": "a determinantal process",
}
DEFAULT_RULE = "rpcholesky"


def audit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".npy, .npz, .mtx or .safetensors.")],
    m: Annotated[int, typer.Option("--landmarks", "-m", min=1, help="How many landmarks.")] = 64,
    rule: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(RULES),
            help="How they are chosen, for a matrix or points.",
            show_default=DEFAULT_RULE,
        ),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(min=0, help="The array is points of a Gaussian kernel exp(−γ‖x−y‖²).")
    ] = None,
    array: Annotated[str | None, typer.Option(metavar="NAME", help="Which array of the file.")] = None,
    head: Annotated[
        int | None, typer.Option(min=0, help="Of q, k and v with leading axes, which head.", show_default="0")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the landmarks and of probes.")] = 0,
    html: Annotated[Path | None, typer.Option(metavar="PAGE", help="Write a page as well.")] = None,
) -> None:
    """Hold every bound on the error of a Nyström approximation against the truth.

    FILE holds a symmetric PSD matrix, points (with --gamma), or q, k and v.  It is read as data, never run.  A
    matrix counts as PSD to the rounding of the format it is stored in.
    """
    from nystrom_numerics.errors import NystromError

    if rule is not None and rule not in RULES:
        raise typer.BadParameter(f"no rule {rule}; the rules are {', '.join(RULES)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # what is not finite is refused, by name
            if html is not None:
                _require_writable(html, file)
            found = _audited(read_arrays(file), file, Options(m, rule, gamma, array, head, seed))
            page = None if html is None else _page(found)
        if html is not None and page is not None:
            _write(html, page)
    except (ExperimentError, NystromError) as error:
        raise _stopped(str(error)) from error
    except MemoryError as error:
        raise _stopped(f"{file}: takes more memory than there is") from error
    except np.linalg.LinAlgError as error:
        raise _stopped(f"{file}: {error}: its numbers are too far apart") from error
    _print(found)
    if html is not None:
        out.print(f"Page: {_visible(str(html))}", markup=False, highlight=False, soft_wrap=True)


def _stopped(reason: str) -> typer.Exit:
    """One line on the terminal, whatever a name in it holds, and status 1."""
    err.print(f"[bold]Stopped:[/] {escape(_visible(reason))}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


def _visible(text: str) -> str:
    """A text without what a terminal takes for a command: line breaks, escapes and lone surrogates are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _require_writable(html: Path, file: Path) -> None:
    """Refuse a page that could not be written, before the work and not after it."""
    try:
        if html.is_dir():
            raise AuditError(f"--html {html}: a folder; name a file in it")
        if html.exists() and file.exists() and html.samefile(file):
            raise AuditError(f"--html {html}: the file that is audited; name another one")
        html.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise AuditError(
            f"--html {html}: cannot be written: {getattr(error, 'strerror', None) or error}"
        ) from error


def _write(html: Path, page: str) -> None:
    try:
        html.write_text(page, encoding="utf-8")
    except OSError as error:
        raise AuditError(f"--html {html}: cannot be written: {error.strerror or error}") from error


def _audited(arrays: dict[str, Stored], file: Path, asked: Options) -> Finding:
    if asked.array is None and {"q", "k"} <= set(arrays):
        asked.refuse(
            "q, k and v",
            rule="landmarks are means of segments",
            gamma="the kernel is softmax, scaled by the width; --array names points",
        )
        return _attention(arrays, file, asked)
    asked.refuse("a matrix or points", head="it is of q, k and v")
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
        _require_moderate(file, name, x)
        title = f"{file.name}: Gaussian kernel, γ = {gamma:g}"
        return _matrix(kernels.gaussian(x, gamma=gamma), title, asked)
    if x.shape[0] != x.shape[1]:
        raise UnreadableFileError(
            f"{file}: array {name:.80} of shape {x.shape} is no square matrix; for points give --gamma"
        )
    return _matrix(kernels.precomputed(x, noise=_noise(roundoff)), f"{file.name}: matrix {name:.80}", asked)


def _listed(names: Iterable[str]) -> str:
    """Names of arrays, the first few of many."""
    all_names = list(names)
    shown = ", ".join(f"{name:.80}" for name in all_names[:8])
    return shown if len(all_names) <= 8 else f"{shown} and {len(all_names) - 8} more"


def _noise(roundoff: float) -> float:
    """How far an entry may be from that of the PSD matrix meant, by the roundoff of the format it is stored in.

    Sixteen bits are a format of storage: one rounding.  In float32 entries are computed, with some more; and those of
    float64 are what the kernel takes them for.
    """
    if roundoff < 2.0**-50:
        return 0.0
    return roundoff if roundoff > 2.0**-20 else 16 * roundoff


MODERATE = 2.0**250
"""The largest number of q, k, v and points: its fourth power, a square of products, is finite."""


def _require_moderate(file: Path, name: str, x: np.ndarray) -> None:
    top = float(np.abs(x).max())
    if top > MODERATE:
        raise UnreadableFileError(
            f"{file}: array {name:.80} has an entry of {top:.3g}; from {MODERATE:.0e} on products overflow"
        )


SPECTRUM_ENTRIES = 2048**2
"""Entries of an attention matrix up to which its singular values are computed: some seconds."""


def _counts(m: int, n: int) -> list[int]:
    """Numbers of landmarks for a figure, with m among them."""
    return sorted({*(c for c in (m // 8, m // 4, m // 2, 2 * m) if 1 <= c < n), m})


def _matrix(kernel: Kernel, title: str, asked: Options) -> Finding:
    from nystrom_numerics import bounds, landmarks

    n, m, seed = kernel.shape[0], asked.m, asked.seed
    if m > n:
        raise UnreadableFileError(f"{m} landmarks for {n} rows; give --landmarks of at most {n}")
    rule = asked.rule or DEFAULT_RULE
    choose = getattr(landmarks, rule)
    drawn = {} if rule in ("pivoted_cholesky", "farthest_point") else {"rng": seed}

    def audited(c: int) -> Audit:
        return bounds.audit(kernel, choose(kernel, c, **drawn), rng=seed)

    found = audited(m)
    rows = tuple(_row(line.name, line.bound, line.tightness, line.of) for line in found.lines)
    failed = tuple(f"{line.name} ({line.of}): {line.bound}" for line in found.failed)
    two, frobenius, trace = found.truth
    chosen = getattr(found.factor.landmarks, "indices", None)
    facts = (
        f"{n} × {n}, {len(found.factor.kept)} landmarks kept of {m}, chosen by {RULES[rule]}, seed {seed}.",
        f"Error: spectral norm {two:.4g}, Frobenius norm {frobenius:.4g}, trace norm {trace:.4g}.",
    )
    if kernel.noise:
        facts += (
            f"Entries count as known to {kernel.noise:.1g} of the largest diagonal entry, as they are stored.",
        )
    figures = (
        (
            "Eigenvalues in descending order, and where the landmarks end.",
            lambda: _spectrum(found.spectrum.values, m),
        ),
        (
            "Error against the number of landmarks, beside its bounds, in three norms.",
            lambda: _error_figure({c: found if c == m else audited(c) for c in _counts(m, n)}),
        ),
    )
    told = "" if chosen is None else ", ".join(str(int(i)) for i in chosen)
    return Finding(title, facts, rows, failed, told, figures)


def _row(name: str, bound: Any, tightness: float, of: str) -> tuple[str, ...]:
    over = f"{tightness:.3g}" if np.isfinite(tightness) else "—"
    value = "none" if bound.value is None else f"{bound.value:.4g}"
    vacuous = "yes" if bound.vacuous else "no"
    return (name, bound.norm.value, bound.side.value, value, over, bound.certainty, of, vacuous, bound.source)


def _attention(arrays: dict[str, Stored], file: Path, asked: Options) -> Finding:
    from nystrom_numerics import attention, bounds, pinv
    from nystrom_numerics.attention import AttentionCertificate, NystromOperator, certify_operator
    from nystrom_numerics.attention.lift import psd_lift

    m, head, seed = asked.m, asked.head or 0, asked.seed
    q, k = (_one_head(file, name, arrays[name].values, head) for name in ("q", "k"))
    v = _one_head(file, "v", arrays["v"].values, head) if "v" in arrays else k
    n = min(len(q), len(k))
    if m > min(n, MOST_LANDMARKS):
        least = min(n, MOST_LANDMARKS)
        raise UnreadableFileError(f"{m} landmarks for {n} tokens; give --landmarks of at most {least}")

    def certified(c: int) -> tuple[NystromOperator, AttentionCertificate]:
        operator = attention.nystrom_operator(q, k, c, pinv=pinv.razavi)
        return operator, certify_operator(operator, v, rng=seed)

    operator, certificate = certified(m)
    lift = psd_lift(q, k, np.concatenate([operator.query_landmarks, operator.key_landmarks]))
    f = attention.exact(q, operator.key_landmarks, np.eye(m))
    b = _gram_of_rows(operator.query_landmarks, k)
    inexact = bounds.pinv_error(operator.core, operator.pinv.value, f.T @ f, b)
    middle = certificate.matrix.estimate
    size = 0.0 if middle is None else middle.value
    pairs = [("Ŝ − S, sampled rows", certificate.matrix), ("Ŝ − S, with certainty", certificate.certain)]
    if "v" in arrays:
        pairs.append(("(Ŝ − S)V, sampled rows", certificate.output))
    papers = [(name, one) for name, pair in pairs for one in (pair.lower, pair.upper)]
    papers += [("F(A⁺ − Z)B, backward", inexact.backward), ("F(A⁺ − Z)B, naive", inexact.naive)]
    lifted = [("block", lift.frobenius), ("entry", lift.largest), ("normalised", lift.normalised)]
    named = [(name, one, "the paper's") for name, one in papers]
    named += [(f"lifted kernel, {name}", one, "true kernel columns") for name, one in lifted]
    rows = tuple(_row(name, one, float("inf"), of) for name, one, of in named)
    facts = (
        f"{len(q)} queries, {len(k)} keys of width {q.shape[1]}, {m} segment means, the paper's estimator.",
        f"‖Ŝ − S‖_F about {size:.4g}, from {certificate.rows} exact rows: {certificate.exact_entries} kernel entries "
        f"of {len(q) * len(k)}.",
        f"F(A⁺ − Z)B itself has Frobenius norm {inexact.exact:.4g}.",
    )
    if len(q) * len(k) <= SPECTRUM_ENTRIES:
        sigma = np.linalg.svd(attention.exact(q, k, np.eye(len(k))), compute_uv=False)
        facts += (
            f"The best matrix of rank {m} has the error {np.linalg.norm(sigma[m:]):.4g} (Eckart and Young).",
        )
        spectrum = "Singular values of S, in descending order, and where the landmarks end."
    else:
        sigma = np.linalg.svd(operator.core, compute_uv=False)
        spectrum = "Singular values of the core, as S is too large for its own."
    figures = (
        (spectrum, lambda: _spectrum(sigma, m)),
        (
            "Interval for the error of Ŝ against the number of landmarks.",
            lambda: _interval_figure({c: certificate if c == m else certified(c)[1] for c in _counts(m, n)}),
        ),
    )
    return Finding(f"{file.name}: attention", facts, rows, (), "means of segments of equal length", figures)


MOST_LANDMARKS = 4096
"""Landmarks of attention that an audit takes: it forms cores of so many rows."""


def _gram_of_rows(landmarks: np.ndarray, k: np.ndarray) -> np.ndarray:
    """BBᵀ for B = softmax of landmarks against keys, (m, m)."""
    from nystrom_numerics.linalg import masked_softmax

    b = masked_softmax(landmarks @ k.T * k.shape[1] ** -0.5)
    return np.asarray(b @ b.T)


def _one_head(file: Path, name: str, x: np.ndarray, head: int) -> np.ndarray:
    if x.ndim < 2:
        raise UnreadableFileError(f"{file}: array {name} has shape {x.shape}; (…, tokens, width) is needed")
    heads = x.reshape(-1, *x.shape[-2:])
    if head >= len(heads):
        raise UnreadableFileError(f"{file}: no head {head}; array {name} has {len(heads)}, counted from 0")
    found = np.asarray(heads[head], dtype=np.float64)
    _require_moderate(file, name, found)
    return found


def _spectrum(values: np.ndarray, m: int) -> Figure:
    from experiments import figures

    figure, axes = figures.grid(1, 1, width=7)
    shown = np.maximum(values, values[0] * 1e-18 or 1e-300)  # a zero matrix has none to show
    axes[0][0].plot(np.arange(1, len(values) + 1), shown, marker="." if len(values) < 100 else None)
    axes[0][0].axvline(m, color="grey", linestyle=":", label=f"m = {m}")
    axes[0][0].set(yscale="log", xlabel="number", ylabel="value")
    axes[0][0].legend(frameon=False)
    return figure


def _error_figure(audits: dict[int, Audit]) -> Figure:
    from experiments import figures
    from nystrom_numerics.bounds import Norm

    norms = (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE)
    figure, axes = figures.grid(1, 3, width=14)
    names = list(dict.fromkeys(line.name for found in audits.values() for line in found.lines))
    colors = figures.palette(names)
    for i, (ax, norm) in enumerate(zip(axes[0], norms, strict=True)):
        for name in names:
            points = [
                (m, line.bound.value, line.bound.side)
                for m, found in audits.items()
                for line in found.lines
                if line.name == name and line.bound.norm is norm and not line.bound.vacuous
            ]
            for side in {p[2] for p in points}:
                mine = [(m, value) for m, value, s in points if s is side and value > 0]
                if mine:
                    ax.plot(*zip(*mine, strict=True), color=colors[name], label=name, marker=".", linewidth=1)
        ax.plot(
            list(audits),
            [found.truth[i] for found in audits.values()],
            "k-",
            linewidth=2,
            label="the error itself",
        )
        shown = any(
            np.max(line.get_ydata(), initial=0) > 0 for line in ax.get_lines()
        )  # none of a zero matrix
        ax.set(xscale="log", yscale="log" if shown else "linear", xlabel="landmarks m", ylabel=norm.value)
        _ticks(ax, list(audits))
    handles: dict[str, Any] = {}
    for ax in axes[0]:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _ticks(ax: Any, counts: Sequence[int]) -> None:
    ax.set_xticks(counts, [str(m) for m in counts])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def _interval_figure(found: dict[int, Any]) -> Figure:
    from experiments import figures

    figure, axes = figures.grid(1, 2, width=10)
    for ax, name, label in zip(axes[0], ("matrix", "output"), ("‖Ŝ − S‖_F", "‖ŜV − SV‖_F"), strict=True):
        made = [getattr(certificate, name) for certificate in found.values()]
        ax.plot(list(found), [c.estimate.value for c in made], marker="o", color="black", label="estimate")
        low, high = ([getattr(c, side).value for c in made] for side in ("lower", "upper"))
        ax.fill_between(list(found), low, high, alpha=0.2, label="99 % interval, asymptotic")
        ax.set(xscale="log", yscale="log", xlabel="landmarks m", ylabel=label)
        _ticks(ax, list(found))
        ax.legend(frameon=False)
    return figure


def _print(found: Finding) -> None:
    out.print(f"[bold]{escape(_visible(found.title))}[/]", highlight=False)
    for fact in found.facts:
        out.print(escape(fact), highlight=False)
    table = Table()
    for column in ("Bound", "Norm", "Value", "Over the truth", "Certainty", "Landmarks"):
        table.add_column(column, overflow="fold")  # narrow or not, nothing is cut off
    for name, norm, side, value, over, certainty, of, vacuous, _ in found.rows:
        said = f"{side} {value}" + (", vacuous" if vacuous == "yes" else "")
        table.add_row(*map(escape, (name, norm.removesuffix(" norm"), said, over, certainty, of)))
    out.print(table)
    for line in found.failed:
        out.print(f"No number: {escape(line)}", highlight=False)
    if found.landmarks:
        out.print(f"Landmarks: {escape(found.landmarks)}", highlight=False)


def _page(found: Finding) -> str:
    """The finding as one page that needs nothing beside it; all text is escaped."""
    import jinja2
    import matplotlib as mpl

    mpl.use("Agg")
    pictures: Sequence[tuple[str, str]] = [(alt, _picture(draw())) for alt, draw in found.figures]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("audit.html")
    return page.render(found=replace(found, title=_visible(found.title)), columns=COLUMNS, pictures=pictures)


def _picture(figure: Figure) -> str:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}"
