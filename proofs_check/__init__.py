"""Claims of the paper and of the classical theory, one file a claim, checked by machine.

``python -m proofs_check [CLAIM ...] [--html PATH]`` checks them and ends in a table.  From Python:
:func:`claims`, :func:`run`, :func:`iterate` and :func:`render_page`.
"""

from proofs_check.page import render_page
from proofs_check.runner import Result, claims, iterate, run

__all__ = ["Result", "claims", "iterate", "render_page", "run"]
