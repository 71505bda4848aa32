"""Formulas as MathML, written into the page: typeset by the browser itself, with no script and no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)
SPELT = {
    r"\\dots(?![A-Za-z])": r"\\ldots",
    r"\\[td]?frac\s*([^\s{\\A-Za-z]|(?<=\s)[A-Za-z])\s*([^\s{\\])": r"\\frac{\1}{\2}",
    r"\\[td]frac(?![A-Za-z])": r"\\frac",
    r"\\big[lr]?(?![A-Za-z])": "",
}
"""What the converter does not know, by what it does (regular expressions)."""


def _mathml(node: nodes.Element, display: bool) -> str:
    tex = node.astext().replace("\n", " ")
    for theirs, ours in SPELT.items():
        tex = re.sub(theirs, ours, tex)
    try:
        return "".join(latex2mathml.tex2mathml(tex, as_block=display).split("\n"))
    except MathError as error:
        log.warning("no MathML for %s: %s", tex, error, location=node)
        return ""


def _inline(page: Any, node: nodes.math) -> None:
    page.body.append(_mathml(node, display=False))
    raise nodes.SkipNode


def _block(page: Any, node: nodes.math_block) -> None:
    page.body.append(f'<div class="formula" tabindex="0">{_mathml(node, display=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
