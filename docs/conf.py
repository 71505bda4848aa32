"""The site: ``make docs`` builds it, with no network then or when it is read."""

from __future__ import annotations

import os
import re
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "extensions"), str(HERE.parent)]

import nystrom_numerics  # noqa: E402

EXAMPLES = HERE / "examples"


def lacking(example: Path) -> list[str]:
    """The modules that an example says it needs, on a line of its own, and that are not here."""
    needs = re.findall(r"^# needs: (.*)$", example.read_text("utf-8"), re.MULTILINE)
    return [name for line in needs for name in line.split() if find_spec(name) is None]


RUNS = (
    [path.name for path in EXAMPLES.glob("*.py") if not lacking(path)]
    if os.environ.get("GALLERY") != "0"
    else []
)

project = "nystrom_numerics"
author = "the nystrom_numerics developers"
copyright = f"{author}. BSD-3"
version = release = nystrom_numerics.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "mathematics",
    "listings",
    "api",
]
root_doc = "index"
exclude_patterns = ["_build", "examples", "**/README.rst"]
nitpicky = False
suppress_warnings = ["config.cache"]

autosummary_generate = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = f"nystrom_numerics {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 5,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

# pages without others below them have nothing to show beside their text
html_sidebars = {page: [] for page in ("start", "which", "findings", "defects", "releases", "contributing")}

sphinx_gallery_conf = {
    "examples_dirs": ["examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": "|".join(map(re.escape, RUNS)) or "none of them",
    "doc_module": ("nystrom_numerics",),
    "backreferences_dir": "gallery/of",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "reset_modules_order": "both",
    "show_memory": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "plot_gallery": "True",
    "image_srcset": ["2x"],
    "write_computation_times": False,  # that page would load scripts from elsewhere
}
warnings.filterwarnings("ignore", message=".*non-interactive.*")
if RUNS and find_spec("transformers"):
    from transformers.utils import logging

    logging.disable_progress_bar()
