"""What is built, what it installs, and that it works where nothing else is."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nystrom_numerics import __version__
from nystrom_numerics.extras import EXTRAS

ROOT = Path(__file__).parents[1]
REQUIRED = ("numpy", "scipy", "array-api-compat", "array-api-extra")
COMMANDS = (*REQUIRED, "jinja2", "rich", "typer")  # without matplotlib, which pages alone need

setuptools = pytest.importorskip("setuptools")
pytest.importorskip("wheel")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist of the sources here, and the wheel that is made from it alone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    left = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("nystrom_numerics", "experiments", "proofs_check"):  # the last two are not to be taken up
        shutil.copytree(ROOT / folder, source / folder, ignore=left)
    for file in ROOT.iterdir():
        if file.suffix in (".py", ".toml", ".md", ".cff", ".txt", ".in") or file.name == "LICENSE":
            shutil.copy(file, source)
    sdist = build("sdist", source, out)
    with tarfile.open(sdist) as archive:
        archive.extractall(out / "unpacked")  # our own
    (unpacked,) = (out / "unpacked").iterdir()
    return sdist, build("wheel", unpacked, out)


BUILD = """
import sys, warnings
from setuptools import build_meta
from setuptools.warnings import SetuptoolsWarning
warnings.simplefilter("error", SetuptoolsWarning)
print(getattr(build_meta, f"build_{sys.argv[1]}")(sys.argv[2]))
"""


def build(kind, source, out):
    """By the back end that pyproject names; it has nothing to warn of."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", BUILD, kind, str(out)]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Run Python or ``nystrom`` where the wheel is installed beside the packages named and no other."""
    made = {}

    def make(*packages):
        if packages not in made:
            folder = tmp_path_factory.mktemp("environment")
            venv.create(folder, symlinks=True)
            (site,) = folder.glob("lib/python*/site-packages")
            pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install"]
            quiet = ["--no-deps", "--no-index", "--quiet", "--no-compile", str(built[1])]
            subprocess.run([*pip, *quiet], check=True, capture_output=True)
            for name in packages:
                link(name, site)
            made[packages] = folder
        return made[packages]

    def run(packages, command, *arguments, cwd=None):
        environment = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        where = make(*packages) / "bin" / command
        return subprocess.run(
            [where, *arguments],
            cwd=cwd or where.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def link(distribution, site):
    """What a distribution has here, and what it requires: its folders and files in ``site``."""
    for path in {file.parts[0] for file in metadata.files(distribution) or ()} - {"..", "__pycache__"}:
        if not (site / path).exists():
            (site / path).symlink_to(Path(metadata.distribution(distribution).locate_file(path)))
    for line in metadata.requires(distribution) or ():
        if "extra ==" not in line and (name := plain(re.match(r"[\w.-]+", line)[0])) in INSTALLED:
            link(name, site)


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


INSTALLED = {plain(found.metadata["Name"]) for found in metadata.distributions()}


def test_one_top_level_package_is_installed_and_its_pages_with_it(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = wheel.namelist()
        (entries,) = (wheel.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    assert {name.split("/")[0] for name in names} == {
        "nystrom_numerics",
        f"nystrom_numerics-{__version__}.dist-info",
    }
    here = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "nystrom_numerics").rglob("*")
        if path.suffix in (".py", ".html", ".typed")
    }
    assert {name for name in names if ".dist-info/" not in name} == here
    assert "nystrom = nystrom_numerics.cli:main" in entries


def test_the_sources_hold_what_a_build_and_a_reader_need(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= names
    assert not {name for name in names if name.startswith(("experiments", "proofs_check", "tests"))}


def test_the_library_works_beside_nothing_but_what_it_requires(installed):
    code = """
import numpy as np, nystrom_numerics
from nystrom_numerics import attention, bounds, kernels, landmarks, lowrank, pinv
q, k, v = np.random.default_rng(0).standard_normal((3, 100, 8))
attention.tangent(q, k, v), attention.nystrom(q, k, v, 8, pinv=pinv.razavi)
kernel = kernels.gaussian(q, gamma=0.1)
factor = lowrank.nystrom_factor(kernel, landmarks.accelerated_rpcholesky(kernel, 10))
print(bounds.certify(kernel, factor).upper.value > 0, nystrom_numerics.__version__)
"""
    done = installed(REQUIRED, "python", "-c", code)
    assert done.stdout.split() == ["True", __version__], done.stderr


@pytest.mark.parametrize(
    ("part", "missing", "extra"),
    [
        ("nn", "torch", "torch"),
        ("distributed", "torch", "torch"),
        ("integrations.torch", "torch", "torch"),
        ("integrations.transformers", "torch", "models"),
        ("integrations.scikit_learn", "sklearn", "sklearn"),
        ("integrations.dask", "dask", "dask"),
    ],
)
def test_a_part_that_lacks_its_packages_names_the_extra_that_brings_them(installed, part, missing, extra):
    done = installed(REQUIRED, "python", "-c", f"import nystrom_numerics.{part}")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.endswith(
        f"{missing} is not installed; this brings it: pip install 'nystrom_numerics[{extra}]'"
    )


def test_the_commands_without_their_packages_are_one_line(installed):
    done = installed(REQUIRED, "nystrom", "--version")
    assert done.returncode == 1
    assert done.stderr == "nystrom needs typer, which is not here: pip install 'nystrom_numerics[cli]'\n"


def test_audit_works_and_what_needs_a_checkout_says_so(installed, tmp_path):
    x = np.random.default_rng(0).standard_normal((30, 3))
    np.save(tmp_path / "a.npy", np.exp(-((x[:, None] - x) ** 2).sum(-1)))

    done = installed(COMMANDS, "nystrom", "audit", "a.npy", "-m", "6", "--json", "a.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Eckart–Young" in done.stdout
    assert (tmp_path / "a.json").exists()

    def stopped(*arguments):
        code, out, err = told[" ".join(arguments)]
        assert (code, out) == (1, "")
        return err.removeprefix("Stopped: ").removesuffix("\n")

    page = ("audit", "a.npy", "-m", "6", "--html", "a.html")
    swap = ("swap", ".", "--text", "a.npy")
    names = ("run", "report", "claims", "figure", "prove", "export")
    calls = [page, swap, ("--version",), ("--help",), *((name,) for name in names)]
    done = installed(COMMANDS, "python", "-c", IN_ONE_PROCESS, json.dumps(calls), cwd=tmp_path)
    told = json.loads(done.stdout)
    assert told["--version"] == [0, f"nystrom_numerics {__version__}\n", ""]
    assert (
        stopped(*page) == "matplotlib is not installed; this brings it: pip install 'nystrom_numerics[cli]'"
    )
    assert "pip install 'nystrom_numerics[models]'" in stopped(*swap)
    for name in names:
        assert stopped(name) == (
            f"nystrom {name} is of the experiments and proofs, which are not installed: "
            f"in a checkout of the repository, python -m experiments {name}"
        )
        assert name in told["--help"][1].partition("In a checkout")[2]


IN_ONE_PROCESS = """
import json, sys
from typer.testing import CliRunner
from nystrom_numerics.cli.commands import application
told = {}
for call in json.loads(sys.argv[1]):
    done = CliRunner().invoke(application(), call)
    told[" ".join(call)] = done.exit_code, done.stdout, done.stderr
print(json.dumps(told))
"""


def test_the_command_finds_the_experiments_of_its_own_checkout_wherever_it_is_called(tmp_path):
    """As in an editable installation: the package alone is on the path, and another ``experiments`` is nearer."""
    alone, decoy = tmp_path / "alone", tmp_path / "decoy" / "experiments"
    alone.mkdir()
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise RuntimeError('of elsewhere')")
    code = f"""
import sys
from importlib.machinery import PathFinder
class OfThePackage:
    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, [{str(ROOT)!r}]) if name == "nystrom_numerics" else None
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in str(finder).lower()]
sys.meta_path.insert(0, OfThePackage())
sys.argv = ["nystrom", "figure", "nothing", "x.png"]
from nystrom_numerics.cli import main
try:
    main()
finally:
    import os, subprocess
    subprocess.run([sys.executable, "-c", "import experiments; print(experiments.__file__)"])
"""
    environment = {**os.environ, "PYTHONPATH": str(decoy.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=alone, env=environment, capture_output=True, text=True, check=False
    )
    assert "no claim nothing; the claims are" in " ".join(done.stderr.split())
    assert done.stdout.strip() == str(ROOT / "experiments" / "__init__.py")


def test_the_version_is_said_once_and_every_file_agrees():
    (newest, date) = re.search(
        r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    ).groups()
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    recipe = (ROOT / "conda" / "recipe.yaml").read_text("utf-8")
    assert newest == __version__
    assert f"\nversion: {__version__}\ndate-released: {date}\n" in citation
    assert f'\n  version: "{__version__}"\n' in recipe


def test_the_recipe_requires_what_the_wheel_does():
    """And what the command line takes, since its package holds the command."""
    setup = ast.parse((ROOT / "setup.py").read_text("utf-8"))
    strings = {
        node.value
        for node in ast.walk(setup)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    required = next(
        ast.literal_eval(word.value)
        for node in ast.walk(setup)
        if isinstance(node, ast.Call)
        for word in node.keywords
        if word.arg == "install_requires"
    )
    run = (ROOT / "conda" / "recipe.yaml").read_text("utf-8").partition("  run:\n")[2].partition("\n\n")[0]
    listed = {line.strip(" -").replace(" ", "") for line in run.splitlines() if "#" not in line}
    listed = {line.replace("matplotlib-base", "matplotlib") for line in listed}
    assert set(required) <= listed
    assert listed - {"python>=3.10"} <= strings


def test_every_extra_that_is_named_exists_and_brings_its_modules(built):
    """By the metadata of the wheel: the requirement of each module is in the extra that a refusal names."""
    with zipfile.ZipFile(built[1]) as wheel:
        (text,) = (wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/METADATA"))
    for extra, modules in EXTRAS.items():
        lines = [line for line in text.splitlines() if line.endswith(f'extra == "{extra}"')]
        brought = {
            word for line in lines for word in re.findall(r"[\w-]+", line.removeprefix("Requires-Dist:"))
        }
        assert {{"sklearn": "scikit-learn"}.get(module, module) for module in modules} <= brought, extra


def test_pinned_versions_are_for_every_release_of_their_python():
    """Distributions have 3.11.2 where a pin that wants 3.11.5 ends ``make report`` at its first line."""
    pins = [
        Requirement(line) for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()[1:] if line
    ]
    assert len(pins) > 100
    narrow = []
    for pin in pins:
        try:
            needs = metadata.metadata(pin.name).get("Requires-Python") or ""
        except metadata.PackageNotFoundError:
            continue
        if "3.11.0" not in SpecifierSet(needs):
            narrow.append(f"{pin}: {needs}")
    assert not narrow
