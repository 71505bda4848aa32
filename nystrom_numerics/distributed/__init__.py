"""Attention of sequences that lie in shards on the ranks of a ``torch.distributed`` process group."""

from nystrom_numerics.extras import brought_by

with brought_by("torch"):
    from nystrom_numerics.distributed.exact import exact
    from nystrom_numerics.distributed.near_field import near_field
    from nystrom_numerics.distributed.nystrom import nystrom
    from nystrom_numerics.distributed.pulse import PATIENCE
    from nystrom_numerics.distributed.tangent import tangent

__all__ = ["PATIENCE", "exact", "near_field", "nystrom", "tangent"]
