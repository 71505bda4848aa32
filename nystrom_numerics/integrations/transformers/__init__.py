"""Nyström attention for every model of transformers that dispatches through its attention interface.

>>> from nystrom_numerics.integrations.transformers import register_with_transformers
>>> register_with_transformers(m=64)  # then attn_implementation="nystrom"
"""

from nystrom_numerics.extras import brought_by

with brought_by("models", "torch", "transformers"):
    from nystrom_numerics.integrations.transformers.calibrating import Calibration, HeadBudget, calibrate
    from nystrom_numerics.integrations.transformers.comparing import (
        Comparison,
        HeadError,
        Summary,
        compare,
        head_operator,
    )
    from nystrom_numerics.integrations.transformers.refusals import UnsupportedModelError
    from nystrom_numerics.integrations.transformers.registration import register_with_transformers
    from nystrom_numerics.integrations.transformers.switching import use_nystrom

__all__ = [
    "Calibration",
    "Comparison",
    "HeadBudget",
    "HeadError",
    "Summary",
    "UnsupportedModelError",
    "calibrate",
    "compare",
    "head_operator",
    "register_with_transformers",
    "use_nystrom",
]
