"""The mutants of one file: mutmut without those that mean nothing, and what became of each.

:mod:`tests.mutants` runs this as a script in a folder that holds mutmut's configuration; the results are left there
in ``results.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import libcst as cst
from mutmut.mutation import file_mutation
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.state import state
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import orig_function_and_class_names_from_key
from mutmut.workers import isolation

RESULTS = Path("results.json")

REFUSED = 255
"""The exit status of a mutant whose tests pytest did not run, which mutmut takes for a timeout."""

WARM = (
    "array_api_compat.torch",
    "scipy.stats",
    "torch._dynamo",
    "torch.distributed.tensor",
    "torch.onnx",
    "transformers.generation.utils",
    "transformers.models.nystromformer.modeling_nystromformer",
)
"""What tests import when they run.  Imported before the forks, it costs seconds once and not for each mutant."""


class Meaningful(file_mutation.MutationVisitor):
    """Mutates what a caller can tell apart.

    The one place that says what is left alone, beyond docstrings, annotations and the code outside functions, which
    mutmut itself passes over:

    * of a ``raise``, all but the name of the argument at fault: the words of a message, and whether there are any.
      The name is the first argument where there are several; an exception's only argument is a message;
    * the words of a warning;
    * the type that ``cast`` names;
    * ``strict`` of ``zip``, which asserts lengths that are equal where the code is right.

    Functions with decorators are passed over by mutmut; those within another are not, here.
    """

    def on_visit(self, node: cst.CSTNode) -> bool:
        if (inside := _meaningful(node)) is None and self._decorated_within(node):
            inside = [node.body]
        if inside is None:
            return super().on_visit(node)
        for part in inside:
            part.visit(self)
        return False

    def _decorated_within(self, node: cst.CSTNode) -> bool:
        outer = self.get_metadata(file_mutation.OuterFunctionProvider, node, None)
        return isinstance(node, cst.FunctionDef) and bool(node.decorators) and outer not in (None, node)


def _meaningful(node: cst.CSTNode) -> list[cst.CSTNode] | None:
    """The parts of a statement or call that may be mutated where not all of it may, else None."""
    if isinstance(node, cst.Raise):
        args = node.exc.args if isinstance(node.exc, cst.Call) else ()
        return list(args[:1]) if len(args) > 1 else []
    if isinstance(node, cst.Call):
        name = node.func.attr if isinstance(node.func, cst.Attribute) else node.func
        match name.value if isinstance(name, cst.Name) else None:
            case "warn":
                return []
            case "cast":
                return list(node.args[1:])
            case "zip":
                return [arg for arg in node.args if arg.keyword is None]
    return None


class FastestFirst(isolation.ForkServerRunner):
    """What a test of milliseconds kills does not wait for one of seconds."""

    def submit(self, mutant_name: str, tests: list[str], *limits: Any) -> None:
        super().submit(mutant_name, sorted(tests, key=lambda test: state().duration_by_test[test]), *limits)


def results() -> Iterator[dict[str, str]]:
    """Of each mutant its name, function, the lines it replaces, those it puts there, and its fate."""
    for path in walk_mutatable_files():
        mutants = SourceFileMutationData(path=path)
        mutants.load()
        for name, code in mutants.exit_code_by_key.items():
            if code == REFUSED:
                raise SystemExit(
                    f"{name}: pytest refused its tests; has one of them a name that is not ASCII?"
                )
            function, owner = orig_function_and_class_names_from_key(name)
            lines = get_diff_for_mutant(name, path=path).splitlines()[2:]
            was, becomes = (
                "\n".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+"
            )
            yield {
                "name": name,
                "function": f"{owner}.{function}" if owner else function,
                "was": was,
                "becomes": becomes,
                "fate": status_by_exit_code[code],
            }


def main(arguments: list[str]) -> None:
    from mutmut.__main__ import cli  # sets how processes are started

    file_mutation.MutationVisitor = Meaningful
    isolation.ForkServerRunner = FastestFirst
    for name in WARM:
        import_module(name)
    cli(["run", *arguments], standalone_mode=False)
    RESULTS.write_text(json.dumps(list(results())), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
