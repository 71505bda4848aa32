"""A trained language model with causal attention by tangents and chosen groups in every layer, and nothing trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import language
from experiments.report import figures
from experiments.rivals.causal import causal_top_keys, causal_window, keys_for
from nystrom_numerics import attention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "A language model with its attention replaced"
CLAIM = (
    "A language model keeps its perplexity with the attention of every layer replaced by causal tangents with chosen "
    "groups."
)
SOURCE = "attention.causal; the window: Xiao et al. 2024 (StreamingLLM), section 3.2"
EXCLUSIVE = False
ALT = (
    "SmolLM2-135M: left, the increase of its perplexity in per cent against the share of causal kernel entries "
    "evaluated, one colour for each text and length, solid for causal tangents and dashed for a window with sinks, "
    "with dotted limits at 2 and 5 per cent; right, the share of heads whose output has at most a relative error, by "
    "causal tangents, by the window and by the largest entries of each row, solid at a quarter of the entries and "
    "dashed at an eighth."
)

EXACT, CAUSAL, WINDOW, TOP = "exact", "causal tangents", "window with sinks", "top keys (oracle)"
STYLES = {CAUSAL: "-", WINDOW: "--"}
HEADS, PERPLEXITY = "heads", "perplexity"
QUARTER, EIGHTH, TENTH = 0.25, 0.125, 0.1
NAMES = {QUARTER: "a quarter", EIGHTH: "an eighth", TENTH: "a tenth"}
SHARES = {HEADS: (QUARTER, EIGHTH), PERPLEXITY: (QUARTER, TENTH)}
LIMITS = {QUARTER: 0.02, TENTH: 0.05}
MOST, SPREAD = 0.95, 5.0
FORMED = 2048  # tokens up to which n × n weights are formed
LENGTHS = (1024, 2048, 4096, 8192)
LAYERS = 30
NAMED = 4  # heads in a verdict

SIZES: dict[int, dict[float, dict[str, int]]] = {
    1024: {
        QUARTER: {"block": 64, "near": 8, "group": 16, "routed": 3},
        EIGHTH: {"block": 64, "near": 16, "group": 64, "routed": 0},
        TENTH: {"block": 64, "near": 3, "group": 64, "routed": 0},
    },
    2048: {
        QUARTER: {"block": 128, "near": 32, "group": 16, "routed": 6},
        EIGHTH: {"block": 64, "near": 16, "group": 32, "routed": 1},
        TENTH: {"block": 64, "near": 40, "group": 64, "routed": 0},
    },
    4096: {
        QUARTER: {"block": 128, "near": 48, "group": 16, "routed": 17},
        TENTH: {"block": 64, "near": 40, "group": 32, "routed": 1},
    },
    8192: {
        QUARTER: {"block": 128, "near": 64, "group": 16, "routed": 40},
        EIGHTH: {"block": 128, "near": 32, "group": 32, "routed": 8},
        TENTH: {"block": 128, "near": 30, "group": 32, "routed": 5},
    },
}
"""Arguments of ``attention.causal`` by tokens and the share of causal entries that they stay within."""


def grid(profile: str) -> tuple[Case, ...]:
    """A case a text, length and part; ``quick`` takes one text, a layer and a quarter of the entries."""
    if profile == "quick":
        some = {"text": "legal", "layers": [16], "shares": list(SHARES[HEADS])}
        heads = [{"part": HEADS, "tokens": 1024, **some}]
        whole = [{"part": PERPLEXITY, "tokens": 1024, "text": "legal", "shares": [QUARTER]}]
    else:
        settings = [{"tokens": n, "text": text} for n in LENGTHS for text in language.TEXTS]
        layers = {"layers": list(range(LAYERS)), "shares": list(SHARES[HEADS])}
        heads = [{"part": HEADS, **x, **layers} for x in settings if x["tokens"] in (2048, 8192)]
        whole = [{"part": PERPLEXITY, **setting, "shares": list(SHARES[PERPLEXITY])} for setting in settings]
    return tuple(Case("language_model", p) for p in [*whole, *heads])


def run(case: Case) -> list[Row]:
    """Perplexities of the whole model, or errors head by head."""
    p = case.params
    model, tokenizer = language.smollm2()
    ids, source = language.tokens(tokenizer, p["text"], p["tokens"])
    rows = _perplexities(model, ids, p) if p["part"] == PERPLEXITY else _errors(model, ids, p)
    return [{"source": source, **row} for row in rows]


@cache
def entries(n: int, share: float) -> int:
    """Kernel entries of ``attention.causal`` with the sizes of that share."""
    empty = np.zeros((n, 1), np.float32)
    return int(attention.causal_operator(empty, empty, **SIZES[n][share]).entries)


def _pairs(n: int) -> int:
    return n * (n + 1) // 2


def _exact(q: Any, k: Any, v: Any, scale: float) -> Any:
    import torch

    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q, k, v, is_causal=True, scale=scale, enable_gqa=True)


def causal(q: Any, k: Any, v: Any, scale: float, **sizes: int) -> Any:
    """``attention.causal`` of grouped heads."""
    members = q.unflatten(1, (k.shape[1], -1))
    return attention.causal(members, k[:, :, None], v[:, :, None], scale=scale, **sizes).flatten(1, 2)


def _window(q: Any, k: Any, v: Any, scale: float, keys: int) -> Any:
    return causal_window(q, k, v, keys, scale=scale)


def _methods(n: int, share: float) -> dict[str, Callable[[Any, Any, Any, float], Any]]:
    keys = keys_for(n, entries(n, share))
    return {CAUSAL: partial(causal, **SIZES[n][share]), WINDOW: partial(_window, keys=keys)}


def _perplexities(model: Any, ids: Any, p: Any) -> Iterator[Row]:
    """One reading each, after one of few tokens to warm up; processor time, as a share of that of the exact model."""
    n = p["tokens"]
    language.read(model, ids[:, :256], _exact)
    exact = language.read(model, ids, _exact)
    yield {"method": EXACT, "share": 1.0, "entries": 1.0, "perplexity": exact.perplexity, "time": 1.0}
    for share in p["shares"]:
        for name, attend in _methods(n, share).items():
            found = language.read(model, ids, attend)
            yield {
                "method": name,
                "share": share,
                "entries": entries(n, share) / _pairs(n),
                "perplexity": found.perplexity,
                "increase": found.perplexity / exact.perplexity - 1,
                "time": found.seconds / exact.seconds,
                "attention time": found.attention / exact.attention,
            }


def _errors(model: Any, ids: Any, p: Any) -> Iterator[Row]:
    """Relative Frobenius errors of ŜV, and of Ŝ where that is formed; three heads at a time share keys."""
    import torch

    heads = language.captured(model, ids, p["layers"])
    with torch.inference_mode():
        for layer, *tokens in zip(p["layers"], heads.q, heads.k, heads.v, strict=True):
            q, k, v = (torch.from_numpy(x)[None] for x in tokens)
            sharing = q.shape[1] // k.shape[1]
            for group in range(k.shape[1]):
                first = group * sharing
                of_group = q[:, first : first + sharing], *(x[:, group : group + 1] for x in (k, v))
                for row in _of_group(*of_group, heads.scale, p["shares"]):
                    yield {"layer": layer, **row, "head": first + row["head"]}


def _of_group(q: Any, k: Any, v: Any, scale: float, shares: Iterable[float]) -> Iterator[Row]:
    import torch

    n = q.shape[-2]
    formed = n <= FORMED
    if formed:
        ahead = torch.ones(n, n, dtype=torch.bool).triu(1)
        scores = (scale * q @ k.mT).masked_fill(ahead, -torch.inf)
        exact = torch.softmax(scores, dim=-1)
        outputs = exact @ v
    else:
        outputs = _exact(q, k, v, scale)
    for share in shares:
        for name, attend in _methods(n, share).items():
            values = torch.cat([v, torch.eye(n)[None, None]], dim=-1) if formed else v
            got = attend(q, k, values, scale)
            found = {"O": _relative(got[..., : v.shape[-1]], outputs)}
            if formed:
                weights = got[..., v.shape[-1] :]
                found["S"] = _relative(weights, exact)
                if name == WINDOW:  # of a query's attention, what the window holds
                    found["held"] = (exact * (weights > 0)).sum(dim=-1).mean(dim=-1).flatten()
            yield from _rows(name, share, n, found)
        if formed:
            weights = causal_top_keys(scores, keys_for(n, entries(n, share)))
            found = {"O": _relative(weights @ v, outputs), "S": _relative(weights, exact)}
            yield from _rows(TOP, share, n, found)


def _rows(name: str, share: float, n: int, found: dict[str, Any]) -> Iterator[Row]:
    taken = entries(n, share) / _pairs(n)
    for head, values in enumerate(zip(*(x.tolist() for x in found.values()), strict=True)):
        yield {"head": head, "method": name, "share": share, "entries": taken} | dict(
            zip(found, values, strict=True)
        )


def _relative(got: Any, exact: Any) -> Any:
    return ((got - exact).norm(dim=(-2, -1)) / exact.norm(dim=(-2, -1))).flatten()


# ---------------------------------------------------------------- verdicts


def _data(records: Iterable[Record]) -> pd.DataFrame:
    return frame(records).reindex(columns=COLUMNS)


COLUMNS = [
    *("part", "text", "tokens", "method", "share", "entries", "perplexity", "increase", "time"),
    *("attention time", "layer", "head", "S", "O", "held"),
]


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """On each text and length that there is."""
    data = _data(records)
    whole, heads = (data[data["part"] == part] for part in (PERPLEXITY, HEADS))
    found = [_kept(whole, share) for share in SHARES[PERPLEXITY]]
    found += [_below_the_window(whole, share) for share in SHARES[PERPLEXITY]]
    found += [_nearer(heads, share, of) for share in SHARES[HEADS] for of in ("O", "S")]
    found += [_even(heads, share) for share in SHARES[HEADS]]
    found += [_faster(whole, share) for share in SHARES[PERPLEXITY]]
    return tuple(found)


def _outcome(holds: bool) -> Outcome:
    return Outcome.SUPPORTED if holds else Outcome.REFUTED


def _where(row: Any) -> str:
    return f"{row['text']}, {row['tokens']:,} tokens"


def _kept(whole: pd.DataFrame, share: float) -> Verdict:
    limit = LIMITS[share]
    statement = f"Perplexity rises by at most {limit:.0%} at {NAMES[share]} of the kernel entries"
    rows = whole[(whole["share"] == share) & (whole["method"] == CAUSAL)]
    if rows.empty:
        return Verdict(statement, Outcome.UNDECIDED, "No record.")
    told = "; ".join(
        f"{_where(r)}: {r['increase']:+.2%} to {r['perplexity']:.2f}, with {r['entries']:.1%} of the entries"
        for _, r in rows.iterrows()
    )
    return Verdict(statement, _outcome(bool((rows["increase"] <= limit).all())), f"{told}.")


def _below_the_window(whole: pd.DataFrame, share: float) -> Verdict:
    statement = f"Perplexity is below that of a window with sinks, at {NAMES[share]} of the entries each"
    rows = whole[whole["share"] == share].pivot_table(
        index=["text", "tokens"], columns="method", values="increase"
    )
    if rows.empty:
        return Verdict(statement, Outcome.UNDECIDED, "No record.")
    rows = rows.reset_index()
    told = "; ".join(f"{_where(r)}: {r[CAUSAL]:+.2%} against {r[WINDOW]:+.2%}" for _, r in rows.iterrows())
    return Verdict(statement, _outcome(bool((rows[CAUSAL] < rows[WINDOW]).all())), f"{told}.")


def _by_head(heads: pd.DataFrame, share: float, of: str) -> pd.DataFrame:
    """One line a head, one column a method, heads without that error left out."""
    part = heads[(heads["share"] == share) & heads[of].notna()]
    return part.pivot_table(index=["text", "tokens", "layer", "head"], columns="method", values=of)


def _nearer(heads: pd.DataFrame, share: float, of: str) -> Verdict:
    what = {"S": "Ŝ", "O": "ŜV"}[of]
    statement = (
        f"At least {MOST:.0%} of the heads have a lower error of {what} than with the window, at {NAMES[share]} of the "
        "entries each"
    )
    errors = _by_head(heads, share, of)
    if errors.empty:
        return Verdict(statement, Outcome.UNDECIDED, "No record.")
    lost = errors[errors[CAUSAL] >= errors[WINDOW]]
    count, number = len(errors) - len(lost), len(errors)
    of_all = errors.dropna(axis="columns")  # top keys are not known of every length
    medians = ", ".join(f"{of_all[name].median():.3f} by {name}" for name in of_all)
    because = f"{count} of {number} heads ({count / number:.1%}); median error {medians}."
    return Verdict(statement, _outcome(count >= MOST * number), f"{because} {_losers(heads, share, lost)}")


def _losers(heads: pd.DataFrame, share: float, lost: pd.DataFrame) -> str:
    """The heads on which the window is better, those that lose most first, and why that may be.

    Either the window holds what they attend to, or even the largest entries of each row are too few.
    """
    if lost.empty:
        return "The window is better on none."
    held, tops = _by_head(heads, share, "held"), _by_head(heads, share, "O")
    order = (lost[CAUSAL] / lost[WINDOW]).sort_values(ascending=False).index
    named = []
    for head in order[:NAMED]:
        told = f"{head[0]}, {head[1]:,} tokens, layer {head[2]:.0f}, head {head[3]:.0f}: "
        told += f"{lost.loc[head, CAUSAL]:.3f} against {lost.loc[head, WINDOW]:.3f}"
        if head in held.index:
            told += f", the window holds {held.loc[head, WINDOW]:.1%} of its attention"
            told += f" and top keys leave {tops.loc[head, TOP]:.3f} of ŜV"
        named.append(told)
    more = f" and {len(order) - NAMED} more" if len(order) > NAMED else ""
    of_all = f" Of all heads the window holds {held[WINDOW].median():.1%} in the median." if len(held) else ""
    return f"The window is better on {'; '.join(named)}{more}.{of_all}"


def _even(heads: pd.DataFrame, share: float) -> Verdict:
    statement = (
        f"The worst head's error of ŜV is at most {SPREAD:.0f} medians, at {NAMES[share]} of the entries"
    )
    part = heads[heads["share"] == share]
    if part.empty:
        return Verdict(statement, Outcome.UNDECIDED, "No record.")
    found = part.groupby(["text", "tokens", "method"])["O"].agg(["max", "median"])
    ratios = (found["max"] / found["median"]).unstack()
    told = []
    for (text, tokens), row in ratios.iterrows():
        others = ", ".join(f"{row[name]:.1f} by {name}" for name in (WINDOW, TOP) if row.get(name, 0) > 0)
        worst, median = found.loc[(text, tokens, CAUSAL)]
        told.append(
            f"{text}, {tokens:,} tokens: {worst:.3f}, {row[CAUSAL]:.1f} times the median {median:.3f}; {others}"
        )
    return Verdict(statement, _outcome(bool((ratios[CAUSAL] <= SPREAD).all())), f"{'. '.join(told)}.")


def _faster(whole: pd.DataFrame, share: float) -> Verdict:
    statement = (
        f"The longest text is read faster than with torch's fused kernel, at {NAMES[share]} of the entries"
    )
    rows = whole[(whole["share"] == share) & (whole["method"] == CAUSAL)]
    if rows.empty:
        return Verdict(statement, Outcome.UNDECIDED, "No record.")
    told = "; ".join(
        f"{_where(r)}: {r['time']:.2f} times the time of the exact model, attention alone {r['attention time']:.2f}"
        for _, r in rows.iterrows()
    )
    longest = rows[rows["tokens"] == rows["tokens"].max()]
    return Verdict(statement, _outcome(bool((longest["time"] < 1).all())), f"{told}.")


# ---------------------------------------------------------------- table and figure


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One line a text, length, share of the entries and method."""
    data = _data(records)
    groups = data.groupby(["text", "tokens", "share", "method"])
    summary = groups.agg(
        entries=("entries", "first"),
        perplexity=("perplexity", "first"),
        increase=("increase", "first"),
        time=("time", "first"),
        heads=("O", "count"),
    ).rename(columns={"time": "time, exact = 1"})
    for of, what in (("S", "Ŝ"), ("O", "ŜV")):
        summary[f"{what}, median"], summary[f"{what}, worst"] = groups[of].median(), groups[of].max()
    return summary.reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Increases of perplexity, and the distribution of the errors of heads."""
    data = _data(records)
    figure, axes = figures.grid(1, 2, height=5.2)
    left, right = axes[0]
    _increases(left, data[data["part"] == PERPLEXITY])
    _distributions(right, data[data["part"] == HEADS])
    return figure


def _increases(ax: Axes, whole: pd.DataFrame) -> None:
    title = "SmolLM2-135M, every layer replaced"
    whole = whole[whole["method"] != EXACT]
    if whole.empty:
        figures.blank(ax, title)
        return
    settings = list(whole.groupby(["text", "tokens"]))
    colors = figures.palette([_setting(*key) for key, _ in settings])
    for key, part in settings:
        for method, style in STYLES.items():
            line = part[part["method"] == method].sort_values("entries")
            ax.plot(
                100 * line["entries"], 100 * line["increase"], style, marker="o", color=colors[_setting(*key)]
            )
    ax.axhline(0, color="black", linewidth=1)
    for share in sorted(whole["share"].unique()):
        ax.plot([85 * share, 105 * share], [100 * LIMITS[share]] * 2, ":", color="black", linewidth=2)
    ax.set(title=title, xlabel="kernel entries, % of those of exact causal attention", yscale="symlog")
    ax.set(xlim=(0, 30), ylabel="increase of perplexity, %")
    ticks = [0, 1, 2, 5, 10, 20, 50]
    ax.set_yticks(ticks, [str(tick) for tick in ticks])
    ax.minorticks_off()
    _legend_under(ax, colors, STYLES)


def _setting(text: str, tokens: int) -> str:
    return f"{text}, {tokens:,} tokens"


def _distributions(ax: Axes, heads: pd.DataFrame) -> None:
    heads = heads[heads["tokens"] <= FORMED]  # of longer texts the top keys are not known
    title = f"Heads, texts of up to {FORMED:,} tokens"
    if heads.empty:
        figures.blank(ax, title)
        return
    colors = figures.palette([CAUSAL, WINDOW, TOP])
    styles = {QUARTER: "-", EIGHTH: "--"}
    for (method, share), part in heads.groupby(["method", "share"]):
        errors = np.sort(part["O"].to_numpy(dtype=float))
        share_of_heads = 100 * np.arange(1, len(errors) + 1) / len(errors)
        ax.step(errors, share_of_heads, styles[share], where="post", color=colors[method])
    ax.set(title=title, xscale="log", xlim=(1e-3, 2), xlabel="‖O−O exact‖ / ‖O exact‖, Frobenius")
    ax.set_ylabel("heads with at most that error, %")
    _legend_under(ax, colors, {f"{NAMES[share]} of the entries": style for share, style in styles.items()})


def _legend_under(ax: Axes, colors: Mapping[str, Any], styles: Mapping[str, str]) -> None:
    """What colours mean, then what styles of lines do."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=color, label=name) for name, color in colors.items()]
    handles += [Line2D([], [], color="grey", linestyle=style, label=name) for name, style in styles.items()]
    ax.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=2,
        frameon=False,
        fontsize="small",
    )
