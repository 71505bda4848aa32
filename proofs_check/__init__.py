"""Claims of the paper and of the classical theory, one file a claim, checked by machine.

``python -m proofs_check [CLAIM ...] [--html PATH]`` checks them and prints a table.  From Python:
:func:`claims`, :func:`run`, :func:`render_page`.
"""


from proofs_check.runner import Result, claims, run

__all__ = ["Result", "claims", "run"]
