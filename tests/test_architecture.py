"""The layers, the light import, and the public names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nystrom_numerics"

# low to high; a module imports only from lower layers or from its own package
LAYERS = [
    {"errors"},
    {"arguments", "brief", "extras", "lapack", "torch_vjp"},
    {"torch_lapack"},
    {"backend"},
    {"places", "solves"},
    {"fused", "linalg"},
    {"enclosures"},
    {"kernels", "pinv"},
    {"landmarks"},
    {"lowrank"},
    {"bounds"},
    {"attention"},
    {"distributed"},
    {"nn"},
    {"integrations"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """First-level names of nystrom_numerics that the file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "nystrom_numerics" and len(parts) > 1 and parts[1] in LEVEL:
                found.add(parts[1])
    return found


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_layers(path):
    own = room(path)
    assert own in LEVEL, f"{own} has no layer; give it one in LAYERS"
    upward = {other for other in imported_rooms(path) if other != own and LEVEL[other] >= LEVEL[own]}
    assert not upward, f"{own} imports {upward}, which is not below it"


@pytest.mark.parametrize("folder", ["experiments", "proofs_check"])
def test_users_of_the_package_use_public_names_only(folder):
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nystrom_numerics"):
                parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                private = [part for part in parts if part.startswith("_") and not part.startswith("__")]
                assert not private, f"{path} imports {private}"


def test_light_import():
    """Importing the package loads no framework, in a fresh process."""
    heavy = ["torch", "cupy", "sklearn", "transformers", "matplotlib", "dask", "scipy", "typer", "pandas"]
    code = (
        "import sys, nystrom_numerics; from nystrom_numerics import attention, landmarks, pinv;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
