"""Torch modules: Nyström attention with its projections, the Nyströmformer, and the weights of others."""

from nystrom_numerics.extras import brought_by

with brought_by("torch"):
    from nystrom_numerics.nn.attention import NystromAttention
    from nystrom_numerics.nn.checkpoints import (
        CheckpointError,
        ExactAttentionWarning,
        from_hugging_face,
        from_hugging_face_state,
        from_nystrom_attention,
        from_nystrom_attention_encoder,
        hugging_face_config,
    )
    from nystrom_numerics.nn.encoder import (
        Nystromformer,
        NystromformerConfig,
        NystromformerForClassification,
        NystromformerForMaskedLM,
        PreNormEncoder,
    )
    from nystrom_numerics.nn.multihead import from_transformer_encoder

__all__ = [
    "CheckpointError",
    "ExactAttentionWarning",
    "NystromAttention",
    "Nystromformer",
    "NystromformerConfig",
    "NystromformerForClassification",
    "NystromformerForMaskedLM",
    "PreNormEncoder",
    "from_hugging_face",
    "from_hugging_face_state",
    "from_nystrom_attention",
    "from_nystrom_attention_encoder",
    "from_transformer_encoder",
    "hugging_face_config",
]
