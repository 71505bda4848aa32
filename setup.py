"""Packaging of nystrom_numerics (the versions that CI uses are pinned in constraints.txt)."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "nystrom_numerics" / "__init__.py").read_text("utf-8").splitlines()
    if line.startswith("__version__")
)

TORCH = ["torch>=2.6"]
SKLEARN = ["scikit-learn>=1.6"]
FRAMES = ["pandas>=2.1"]
PLOTS = ["matplotlib>=3.8"]
CLI = ["jinja2>=3.1", "rich>=13", "typer>=0.12", *PLOTS]
DASK = ["dask[array,dataframe,distributed]>=2024.8", *FRAMES, *SKLEARN]
MODELS = [*TORCH, "transformers>=4.56", "safetensors>=0.4", "tokenizers>=0.20", "einops>=0.8"]
CHEMISTRY = ["rdkit>=2023.9", "rxn-chem-utils>=1.5"]
EXPERIMENTS = [  # what a checkout runs: claims and their report
    *CLI,
    *DASK,
    *TORCH,
    "psutil>=5.9",
    "pyarrow>=15",
    "seaborn>=0.13",
]
ONNX = [*TORCH, "onnxscript>=0.5", "onnxruntime>=1.20"]
PROOFS = ["hypothesis>=6.100", "jinja2>=3.1", "python-flint>=0.6", "rich>=13", "sympy>=1.12"]
DOCS = [
    "matplotlib>=3.8",
    "myst-parser>=4",
    "numpydoc>=1.8",
    "pydata-sphinx-theme>=0.16",
    "sphinx>=8.1",
    "sphinx-design>=0.6",
    "sphinx-gallery>=0.18",
]
DEV = [
    "axe-playwright-python>=0.1.4",  # tests of pages in a browser, which is found and not brought
    "array-api-strict>=2.3",
    "mpmath>=1.3",
    "mutmut>=3.8.1,<3.9",  # tests/mutants replaces two of its classes
    "mypy>=1.11",
    "playwright>=1.45",
    "pre-commit>=3.7",
    "pytest>=8.2",
    "pytest-benchmark>=4.0",
    "pytest-xdist>=3.6",
    "ruff>=0.6",
    "zarr>=3.0",
    *PROOFS,
]

setup(
    name="nystrom_numerics",
    version=VERSION,
    description="Nyström attention as numerics: landmarks, pseudoinverses, bounds, and checks of every claim",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    packages=find_packages(include=["nystrom_numerics*"]),  # experiments and proofs are run from a checkout
    package_data={"nystrom_numerics": ["py.typed", "cli/**/*.html"]},
    python_requires=">=3.10",
    install_requires=[
        "numpy>=1.26",
        "scipy>=1.12",
        "array-api-compat>=1.12",
        "array-api-extra>=0.8",
    ],
    extras_require={
        "torch": TORCH,
        "cupy12": ["cupy-cuda12x>=13.4"],
        "cupy13": ["cupy-cuda13x>=13.6"],
        "sklearn": SKLEARN,
        "frames": FRAMES,
        "plots": PLOTS,
        "cli": CLI,
        "dask": DASK,
        "models": MODELS,
        "experiments": EXPERIMENTS,
        "chemistry": CHEMISTRY,
        "onnx": ONNX,
        "proofs": PROOFS,
        "docs": DOCS,
        "dev": DEV,
        "all": [*EXPERIMENTS, *MODELS, *CHEMISTRY, *ONNX, *DEV, *DOCS],
    },
    entry_points={"console_scripts": ["nystrom = nystrom_numerics.cli:main"]},
)
