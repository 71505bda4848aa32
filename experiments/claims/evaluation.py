"""The paper's own evaluation: the tasks of the Long Range Arena, IMDB and SST-2, and every rival, on one recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs.tasks import image, imdb, listops, pathfinder, retrieval, sst2
from experiments.inputs.tasks.contract import Splits, Texts
from experiments.report import figures
from experiments.report.evidence import bounded
from experiments.report.pairing import at_chosen_rates, by_seed, difference, interval
from experiments.training import learning, tuning
from experiments.training.learning import Recipe
from experiments.training.mixers import EXACT, MIXERS, NONE, NYSTROM

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "The paper's own evaluation"
CLAIM = "A model with Nyström attention is as accurate as one with exact attention, and of the linear methods the best."
SOURCE = "Xiong et al. 2021, Tables 2 and 3 (SST-2, IMDB; Long Range Arena, Tay et al. 2021)"
EXCLUSIVE = False
ALT = (
    "For each task, one or two a panel: test accuracy by method, the mean over seeds as a bar from chance and each "
    "seed as a dot, with exact attention as a dashed line."
)

LEARNED, TUNED, COUNTED = "from nothing", "tuned", "lengths"
ALONE = "Nyström without convolution"
GATE = (
    EXACT,
    NONE,
    NYSTROM,
    ALONE,
)  # what says whether a task ranks anybody, and how the paper's method stands
ALL = (*GATE, *(name for name in MIXERS if name not in GATE))
OURS = tuple(name for name in ALL if name != "nystrom-attention")  # that one is the paper's form once more
LEAST, CLEAR = 0.01, 0.02  # accuracy that may be lost; what counts as clearly better
LIMIT = 64  # tokens, the paper's landmarks
RATES, PUBLISHED, TUNING = (2e-3,), (1e-4, 5e-4), (5e-5,)
SEEDS = 3
PANELS = 6
"""The most that a figure has."""


@dataclass(frozen=True)
class Setting:
    """What a profile gives a task: tokens, landmarks, steps, examples a step and in the three parts, and methods."""

    length: int
    m: int
    steps: int
    batch: int
    sizes: tuple[int, int, int]
    methods: Sequence[str] = GATE


@dataclass(frozen=True)
class Task:
    """Where examples come from, and the settings of the profiles that have it."""

    load: Callable[[tuple[int, int, int], int], Splits]
    full: Setting | None
    gpu: Setting


TASKS = {
    "ListOps": Task(
        listops.load,
        Setting(128, 8, 300, 32, (9600, 100, 2000), OURS),
        Setting(2000, 64, 5000, 32, (96000, 2000, 2000), ALL),
    ),
    "IMDB, words": Task(
        imdb.words,
        Setting(128, 8, 200, 32, (6400, 100, 3000), OURS),
        Setting(512, 64, 5000, 32, (20000, 2000, 3000), ALL),
    ),
    "Text (IMDB, bytes)": Task(
        imdb.octets,
        Setting(512, 16, 80, 16, (1280, 100, 500)),
        Setting(4000, 64, 20000, 32, (20000, 2000, 3000), ALL),
    ),
    "Image (CIFAR-10, grey)": Task(
        image.load,
        Setting(256, 16, 200, 32, (6400, 100, 1500)),
        Setting(1024, 64, 35000, 256, (45000, 5000, 10000), ALL),
    ),
    "Retrieval surrogate (20 newsgroups)": Task(
        retrieval.load,
        Setting(256, 16, 80, 16, (1280, 100, 500)),
        Setting(4000, 64, 30000, 32, (100000, 4000, 8000), ALL),
    ),
    "Pathfinder, easy": Task(
        pathfinder.load,
        Setting(1024, 32, 20, 16, (320, 100, 200)),
        Setting(1024, 64, 62400, 256, (80000, 10000, 10000), ALL),
    ),
    "Pathfinder, intermediate": Task(
        partial(pathfinder.load, difficulty="intermediate"),
        None,
        Setting(1024, 64, 62400, 256, (80000, 10000, 10000), ALL),
    ),
    "Pathfinder, hard": Task(
        partial(pathfinder.load, difficulty="hard"),
        None,
        Setting(1024, 64, 62400, 256, (80000, 10000, 10000), ALL),
    ),
}
FIRST, SECOND = "ListOps", "IMDB, words"
"""Tasks that ``full`` tries all methods on."""

QUICK = {"ListOps": Setting(64, 4, 8, 8, (64, 16, 32), (EXACT, NONE, NYSTROM))}


@dataclass(frozen=True)
class Tuned:
    """A task of texts: tokens they are cut to, attention to train with and to put in after, budgets by profile."""

    load: Callable[[tuple[int, int, int]], Texts]
    tokens: dict[str, int]
    before: Sequence[tuple[str, int]]
    after: Sequence[tuple[str, int]]
    full: tuple[int, int, tuple[int, int, int]]
    gpu: tuple[int, int, tuple[int, int, int]]


TEXTS = {
    "SST-2": Tuned(
        sst2.texts,
        {"full": 128, "gpu": 128},
        (("Nyström", 16),),
        (("Nyström", LIMIT), ("Nyström", 16)),
        (100, 16, (1600, 32, 872)),
        (5000, 32, (60000, 872, 872)),
    ),
    "IMDB": Tuned(
        imdb.texts,
        {"full": 128, "gpu": 512},
        (("Nyström", 32),),
        (("Nyström", 32), ("tangents", 32)),
        (60, 8, (480, 32, 300)),
        (5000, 32, (20000, 1000, 4000)),
    ),
}


def grid(profile: str) -> tuple[Case, ...]:
    """A case a training: a task, method, learning rate and seed; and one for the lengths of SST-2's sentences.

    ``full`` gives all methods to two tasks, and to the others what shows whether they rank anybody; ``gpu`` has the
    published lengths and steps, and the same small grid of rates for everybody, where ``full`` has one rate.
    """
    settings = QUICK if profile == "quick" else {name: getattr(task, profile) for name, task in TASKS.items()}
    rates, seeds = (PUBLISHED, SEEDS) if profile == "gpu" else (RATES, 2 if profile == "quick" else SEEDS)
    device = {"device": "cuda" if profile == "gpu" else "cpu", "dropout": 0.1 if profile == "gpu" else 0.0}
    learned = [
        ({"part": LEARNED, "task": task, "method": method, "rate": rate, **_of(setting), **device}, seed)
        for task, setting in settings.items()
        if setting is not None
        for seed in range(seeds)
        for method in setting.methods
        for rate in rates
    ]
    counted = ({"part": COUNTED, "task": "SST-2"}, 0)
    cases = sorted([counted, *learned, *_tuned(profile)], key=lambda case: _turn(case[0]))
    return tuple(Case("evaluation", p, seed) for p, seed in cases)


def _turn(p: dict[str, Any]) -> int:
    """What tells most comes first, for a run may be stopped: all on the first task, then who ranks on the others."""
    if p["part"] != LEARNED:
        return 4 if p["part"] == TUNED else 0
    gate = p["method"] in GATE
    if p["task"] == FIRST:
        return 1 if gate else 2
    return 6 if not gate else 3 if p["task"] == SECOND else 5


def _of(setting: Setting) -> dict[str, Any]:
    """The numbers of a setting, but not who else is compared."""
    return {
        "length": setting.length,
        "m": setting.m,
        "steps": setting.steps,
        "batch": setting.batch,
        "sizes": list(setting.sizes),
    }


def _tuned(profile: str) -> Iterator[tuple[dict[str, Any], int]]:
    for name, task in TEXTS.items() if profile != "quick" else ():
        steps, batch, sizes = getattr(task, profile)
        budget = {"steps": steps, "batch": batch, "sizes": list(sizes), "tokens": task.tokens[profile]}
        device = "cuda" if profile == "gpu" else "cpu"
        for seed in range(SEEDS):
            for before, m in [(EXACT, 0), *task.before]:
                for rate in TUNING:
                    setting = {"part": TUNED, "task": name, "before": before, "m": m, "rate": rate}
                    yield {**setting, **budget, "device": device}, seed


def run(case: Case) -> list[Row]:
    """Train one model and judge it, or count tokens."""
    p = case.params
    if p["part"] == COUNTED:
        data = sst2.texts((60_000, 6_000, 872))
        parts = {"train": data.train, "validation": data.validation, "test": data.test}
        return [{"split": name, "limit": LIMIT, **tuning.longer_than(x, LIMIT)} for name, x in parts.items()]
    sizes = tuple(p["sizes"])
    if p["part"] == TUNED:
        task = TEXTS[p["task"]]
        texts = task.load(sizes)
        after = task.after if p["before"] == EXACT else ()
        recipe = Recipe(p["steps"], p["batch"], p["rate"])
        found = tuning.tune(texts, p["before"], after, p["m"], p["tokens"], recipe, case.seed, p["device"])
        return [{**row, "source": texts.source} for row in found]
    data = TASKS[p["task"]].load(sizes, p["length"])
    recipe = Recipe(p["steps"], p["batch"], p["rate"], p["dropout"])
    entries = MIXERS[p["method"]].entries(p["length"], p["m"])
    return [{**learning.train(data, p["method"], p["m"], recipe, case.seed, p["device"]), "entries": entries}]


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """For every task: is Nyström within a point of exact, and of the linear methods the best; and the rest."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found: list[Verdict] = []
    learned, tuned = (_trained(data, part) for part in (LEARNED, TUNED))
    for task in learned["task"].unique():
        found += _on_task(learned, task)
    for task in tuned["task"].unique():
        found += _on_tuned(tuned, task)
    if (data["part"] == COUNTED).any():
        found.append(_on_lengths(data[data["part"] == COUNTED]))
    return tuple(found)


def _trained(data: pd.DataFrame, part: str) -> pd.DataFrame:
    chosen = data[data["part"] == part]
    return chosen if chosen.empty else at_chosen_rates(chosen)


def _on_task(data: pd.DataFrame, task: str) -> tuple[Verdict, Verdict]:
    within = f"{task}: Nyström attention is within one point of exact attention"
    best = f"{task}: Nyström attention is the best of the linear methods"
    table, own = by_seed(data, task), data[data["task"] == task]
    idle = says_nothing(table, float(own["chance"].iloc[0]))
    told = "Mean accuracy " + ", ".join(f"{table[name].mean():.1%} {name}" for name in ALL if name in table)
    told += f"; chance {own['chance'].iloc[0]:.0%}; {int(own['steps'].iloc[0])} steps."
    if idle:
        return tuple(Verdict(x, Outcome.UNDECIDED, f"{idle} {told}") for x in (within, best))  # type: ignore[return-value]
    lost = difference(table, EXACT, NYSTROM)
    if lost is None:
        first = Verdict(within, Outcome.UNDECIDED, f"Fewer than two seeds of both. {told}")
    else:
        first = bounded(within, lost.low, lost.high, LEAST, f"Exact less Nyström: {lost}. {told}")
    return first, _best(table, best, told)


def says_nothing(table: pd.DataFrame, chance: float) -> str:
    """Why a task ranks nobody: exact attention does not clearly beat chance and no attention; empty where it does."""
    if EXACT not in table or NONE not in table:
        return "There is no exact attention beside no attention."
    above, gained = interval((table[EXACT] - chance).dropna()), difference(table, EXACT, NONE)
    if above is None or gained is None:
        return "Fewer than two seeds of exact attention and of no attention."
    if above.low <= CLEAR:
        return f"At this budget exact attention is not clearly better than chance: {above}."
    if gained.low <= CLEAR:
        return f"This says nothing about attention: exact less no attention is {gained}."
    return ""


def _best(table: pd.DataFrame, statement: str, told: str) -> Verdict:
    """Against every linear rival, all intervals together at 95 %."""
    rivals = [name for name in ALL if MIXERS[name].linear and name not in (NYSTROM, ALONE) and name in table]
    found = {name: difference(table, NYSTROM, name, among=len(rivals)) for name in rivals}
    known = {name: x for name, x in found.items() if x is not None}
    if not known:
        return Verdict(statement, Outcome.UNDECIDED, f"No rival with two seeds. {told}")
    better = [name for name, x in known.items() if x.high < 0]
    worst = min(known.values(), key=lambda x: x.low)
    outcome = Outcome.REFUTED if better else Outcome.SUPPORTED if worst.low > 0 else Outcome.UNDECIDED
    listed = "; ".join(f"less {name} {x}" for name, x in known.items())
    return Verdict(statement, outcome, f"Nyström {listed}. {told}")


def _on_tuned(data: pd.DataFrame, task: str) -> list[Verdict]:
    """Each replacement beside exact attention, where that has learned something."""
    table, chance = by_seed(data, task), float(data[data["task"] == task]["chance"].iloc[0])
    found = []
    for method in (name for name in table if name != EXACT):
        statement = f"{task}, MiniLM: {method} training, attention is within one point of exact attention"
        lost = difference(table, EXACT, method)
        above = None if lost is None else interval((table[EXACT] - chance).dropna())
        if lost is None or above is None:
            found.append(Verdict(statement, Outcome.UNDECIDED, "Fewer than two seeds of both."))
            continue
        if above.low <= CLEAR:
            found.append(
                Verdict(
                    statement,
                    Outcome.UNDECIDED,
                    f"Exact attention is not clearly better than chance: {above}.",
                )
            )
            continue
        told = f"Exact less replaced: {lost}; mean accuracy {table[EXACT].mean():.1%} and {table[method].mean():.1%}."
        found.append(bounded(statement, lost.low, lost.high, LEAST, told))
    return found


def _on_lengths(data: pd.DataFrame) -> Verdict:
    counts = data.set_index("split")
    told = "; ".join(
        f"{row['longer']:.0f} of {row['texts']:.0f} in {name} (median {row['median']:.0f}, at most {row['most']:.0f})"
        for name, row in counts.iterrows()
    )
    share = counts.loc["test", "longer"] / counts.loc["test", "texts"]
    outcome = Outcome.SUPPORTED if share >= LEAST else Outcome.REFUTED
    return Verdict(
        f"SST-2 can tell {LIMIT} landmarks from exact attention: one sentence in a hundred has more tokens",
        outcome,
        f"Longer than {LIMIT} tokens: {told}. Up to {LIMIT} tokens the approximation is exact attention.",
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """A line a task and method at its chosen rate: accuracy with its interval, difference to exact, costs."""
    import pandas as pd

    data, lines = frame(records), []
    for part in (LEARNED, TUNED):
        chosen = _trained(data, part) if not data.empty else data
        for task in chosen["task"].unique() if not chosen.empty else ():
            seeds, own = by_seed(chosen, task), chosen[chosen["task"] == task]
            for method in (name for name in (*ALL, *seeds) if name in seeds):
                lines.append(_line(part, task, method, seeds, own[own["method"] == method]))
    counted = data[data["part"] == COUNTED] if not data.empty else data
    for _, row in counted.iterrows():
        lines.append(
            {"task": f"SST-2, {row['split']}", "texts": row["texts"], f"longer than {LIMIT}": row["longer"]}
        )
    return pd.DataFrame(lines).drop_duplicates()


def _line(part: str, task: str, method: str, seeds: pd.DataFrame, own: pd.DataFrame) -> Row:
    accuracy, less = interval(seeds[method].dropna()), difference(seeds, method, EXACT)
    line: Row = {"part": part, "task": task, "method": method, "accuracy": float(seeds[method].mean())}
    if accuracy is not None:
        line |= {"low": accuracy.low, "high": accuracy.high}
    if less is not None and method != EXACT:
        line |= {"to exact": less.mean, "to exact, low": less.low, "to exact, high": less.high}
    peaks = own["peak_bytes"].median() / 2**20 if "peak_bytes" in own else None
    return line | {
        "seeds": len(seeds[method].dropna()),
        "rate": float(own["rate"].iloc[0]),
        "milliseconds": float(own["milliseconds"].median()),
        "peak_mebibytes": peaks,
        "entries": float(own["entries"].iloc[0]) if "entries" in own else None,
        "steps": int(own["steps"].iloc[0]),
        "source": own["source"].iloc[0],
    }


def plot(records: Iterable[Record]) -> Figure:
    """Accuracies by task and method, in at most six panels."""
    data = frame(records)
    parts = [_trained(data, part) for part in (LEARNED, TUNED)] if not data.empty else []
    tasks = [
        (task, by_seed(part, task), float(part[part["task"] == task]["chance"].iloc[0]))
        for part in parts
        if not part.empty
        for task in part["task"].unique()
    ]
    each = max(1, -(-len(tasks) // PANELS))
    panels = [tasks[i : i + each] for i in range(0, len(tasks), each)]
    lines = max((sum(len(table.columns) + 1 for _, table, _ in panel) for panel in panels), default=0)
    columns = 2 if each > 1 else 3
    figure, axes = figures.grid(-(-max(1, len(panels)) // columns), columns, height=max(3.8, 0.22 * lines))
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    if not panels:
        figures.blank(axes[0][0], "accuracy")
        axes[0][0].axis("on")
    for ax, panel in zip(axes.flat, panels, strict=False):
        _panel(ax, panel)
    return figure


def _panel(ax: Any, tasks: Sequence[tuple[str, pd.DataFrame, float]]) -> None:
    """Tasks one below the other, each with a line for its name and one for each method."""
    place, places, labels = 0, [], []
    colors = figures.palette(ALL)
    for task, table, chance in tasks:
        names = [name for name in dict.fromkeys((*ALL, *table)) if name in table]
        top, place = place, place + 1
        for name in names:
            mean, color = float(table[name].mean()), colors.get(name, "grey")
            ax.barh(place, mean - chance, left=chance, color=color, alpha=0.6)
            values = table[name].dropna()
            ax.plot(values, [place] * len(values), ".", color="black", markersize=4)
            places, labels, place = [*places, place], [*labels, name], place + 1
        if EXACT in table:
            ax.vlines(float(table[EXACT].mean()), top + 0.5, place - 0.5, "black", "dashed", linewidth=1)
        ax.text(
            0.01, top, task, transform=ax.get_yaxis_transform(), va="center", fontweight="bold", fontsize=10
        )
    ax.set_yticks(places, labels, fontsize=9)
    ax.set_ylim(place - 0.4, -0.6)
    ax.set_xlabel("test accuracy, from chance")
