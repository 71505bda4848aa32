"""Attention of this package where Torch has its own: :func:`torch.nn.functional.scaled_dot_product_attention`.

>>> from nystrom_numerics.integrations.torch import replaced_sdpa, sdpa
>>> attend = sdpa(m=64)  # of its signature
>>> with replaced_sdpa(attend):  # for code that calls it by itself
...     pass
"""

from nystrom_numerics.extras import brought_by

with brought_by("torch"):
    from nystrom_numerics.integrations.torch.capturing import captured
    from nystrom_numerics.integrations.torch.replacing import replaced_sdpa
    from nystrom_numerics.integrations.torch.sdpa import UnservedArgumentError, sdpa

__all__ = ["UnservedArgumentError", "captured", "replaced_sdpa", "sdpa"]
