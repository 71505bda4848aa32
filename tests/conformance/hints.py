"""What the names of fields and arguments do not tell, architecture by architecture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.conformance.inputs import BATCH, GRID, draw, first, tokens

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
M_ROPE = {**ROPE, "mrope_section": [2, 1, 1]}
MAMBA = {"mamba_n_heads": 4, "mamba_d_state": 16, "mamba_chunk_size": 16}
SERIES = {
    "prediction_length": 8,
    "context_length": 20,
    "lags_sequence": [1, 2, 3],
    "d_model": 32,
    "num_time_features": 1,
}
RESNET = {
    "model_type": "rt_detr_resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}
HGNET = {
    "model_type": "hgnet_v2",
    "embedding_size": 8,
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 16, 24, 32],
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 16, 24],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 16, 24, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
}
DETECTION = {
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 24, 32],
    "decoder_in_channels": [32, 32, 32],
    "encoder_layers": 1,
    "num_queries": 20,
    "d_model": 32,
}
RESNET_DETECTION = {**DETECTION, "backbone_config": RESNET}
HGNET_DETECTION = {**DETECTION, "backbone_config": {**HGNET, "out_features": ["stage2", "stage3", "stage4"]}}
DETR = {"backbone_config": {**RESNET, "model_type": "resnet", "out_features": ["stage4"]}, "num_queries": 20}
SVTR = {"backbone_config": {**HGNET, "out_features": ["stage4"]}}

CONFIGS: dict[str, dict[str, Any]] = {
    "BambaConfig": {"attn_layer_indices": [1], **MAMBA},
    "BridgeTowerVisionConfig": {"hidden_size": 64},
    "BridgeTowerTextConfig": {"hidden_size": 64},
    "BridgeTowerConfig": {"hidden_size": 64},
    "ChameleonConfig": {"vocabulary_map": {"<image>": 90, "IMGIMGA": 91, "IMGIMGB": 92}},
    "CohereCompassTextConfig": {
        "rope_parameters": {"full_attention": M_ROPE, "sliding_attention": M_ROPE},
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "ConditionalDetrConfig": DETR,
    "Cosmos3EdgeTextConfig": {"rope_parameters": M_ROPE},
    "DFineConfig": HGNET_DETECTION,
    "DbrxAttentionConfig": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
    "DbrxFFNConfig": {"hidden_size": 32},
    "DeepseekOcr2TextConfig": {"mlp_layer_types": ["dense", "sparse"], "n_group": 1, "topk_group": 1},
    "DeformableDetrConfig": {
        **DETR,
        "backbone_config": {**RESNET, "model_type": "resnet"},
        "num_feature_levels": 3,
    },
    "Deimv2Config": HGNET_DETECTION,
    "DetrConfig": DETR,
    "DiffusionGemmaTextConfig": {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32},
    "Dots1Config": {"n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1},
    "Dots3NoteAudioConfig": {"adapter_input_size": 32, "adapter_out_dim": 32},
    "Dots3NoteVisionConfig": {"mlp_layer_types": ["dense", "dense"], "adapter_out_dim": 32},
    "EfficientLoFTRConfig": {
        "stage_num_blocks": [1, 1, 1, 1],
        "out_features": [8, 16, 32, 32],
        "stage_stride": [2, 1, 2, 2],
        "num_attention_layers": 1,
        "q_aggregation_kernel_size": 1,
        "kv_aggregation_kernel_size": 1,
        "q_aggregation_stride": 1,
        "kv_aggregation_stride": 1,
        "fine_kernel_size": 2,
        "rope_parameters": {**ROPE, "partial_rotary_factor": 2.0},
    },
    "Ernie4_5_VLMoeTextConfig": {
        "rope_parameters": {**ROPE, "mrope_section": [1, 1, 2]},
        "moe_intermediate_size": [32, 16],
    },
    "Ernie4_5_VL_MoeTextConfig": {
        "rope_parameters": {**ROPE, "mrope_section": [1, 1, 2]},
        "moe_intermediate_size": [32, 16],
    },
    "EsmConfig": {"vocab_size": 64, "pad_token_id": 1, "mask_token_id": 63},
    "FunAsrNanoAdaptorConfig": {"intermediate_size": 8},
    "Gemma3nTextConfig": {
        "num_hidden_layers": 10,
        "num_kv_shared_layers": 5,
        "activation_sparsity_pattern": [0.0] * 10,
        "laurel_rank": 8,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 128,
    },
    "Florence2VisionConfig": {
        "embed_dim": (16, 16, 32, 32),
        "num_heads": (2, 2, 4, 4),
        "num_groups": (2, 2, 4, 4),
        "depths": (1, 1, 1, 1),
        "window_size": 2,
        "projection_dim": 32,
    },
    "Llama4VisionConfig": {
        "vision_output_dim": 32,
        "projector_input_dim": 32,
        "projector_output_dim": 32,
        "pixel_shuffle_ratio": 0.5,
        "intermediate_size": 128,
    },
    "Glm4vMoeTextConfig": {"rope_parameters": {**M_ROPE, "partial_rotary_factor": 1.0}},
    "Glm4vTextConfig": {"rope_parameters": M_ROPE},
    "GlmImageTextConfig": {"rope_parameters": {**M_ROPE, "partial_rotary_factor": 1.0}},
    "GlmOcrTextConfig": {"rope_parameters": {**M_ROPE, "partial_rotary_factor": 1.0}},
    "Granite4VisionConfig": {
        "deepstack_layer_map": [[0, 0]],
        "spatial_target_layers": [0],
        "downsample_rate": "1/2",
        "image_grid_pinpoints": [[32, 32]],
    },
    "GraniteMoeHybridConfig": {"layer_types": ["linear_attention", "full_attention"], **MAMBA},
    "HunYuanVLTextConfig": {"rope_parameters": {**ROPE, "mrope_section": [1, 1, 1, 1]}},
    "InformerConfig": SERIES,
    "KyutaiSpeechToTextConfig": {
        "audio_pad_token_id": 60,
        "pad_token_id": 3,
        "bos_token_id": 100,
        "num_codebooks": 4,
    },
    "Lfm2MoeConfig": {
        "layer_types": ["conv", "full_attention"],
        "num_dense_layers": 1,
        "rope_parameters": ROPE,
    },
    "LwDetrViTConfig": {
        "image_size": 64,
        "num_windows": 4,
        "pretrain_image_size": 64,
        "out_features": ["stage2"],
    },
    "MaskFormerSwinConfig": {"num_heads": (2, 2, 2, 2), "embed_dim": 8},
    "MiMoV2FlashConfig": {},
    "Molmo2AdapterConfig": {"vision_feature_layer": [-1]},
    "YolosConfig": {"image_size": [32, 64]},
    "Molmo2VisionConfig": {"image_size": [32, 32], "num_position_embeddings": 16},
    "MoonshineStreamingConfig": {"num_key_value_heads": 4},
    "MuseSparkAudioConfig": {
        "num_hidden_layers": 4,
        "hidden_sizes": (8, 8, 16, 16),
        "depths": (1, 1, 1, 1),
        "out_hidden_size": 32,
    },
    "NemotronConfig": {"num_key_value_heads": 2, "head_dim": 8},
    "Nemotron3_5TranscribeWordTimestampConfig": {"blank_token_id": 127},
    "NemotronHConfig": {
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "ssm_state_size": 16,
        "chunk_size": 16,
    },
    "NeoMMEConfig": {"head_dim": 16, "num_attention_heads": 4},
    "PPDocLayoutV2Config": HGNET_DETECTION,
    "PPDocLayoutV3Config": HGNET_DETECTION,
    "PPDocLayoutV4Config": HGNET_DETECTION,
    "PaddleOCRTextConfig": {"rope_parameters": M_ROPE},
    "Pix2StructTextConfig": {"initializer_range": 0.02},
    "RfDetrConfig": {
        "backbone_config": {
            "model_type": "rf_detr_dinov2",
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "num_windows": 1,
            "out_features": ["stage2"],
        },
        "num_queries": 20,
        "d_model": 32,
        "group_detr": 1,
        "decoder_self_attention_heads": 4,
        "decoder_cross_attention_heads": 4,
        "decoder_n_points": 2,
    },
    "SamMaskDecoderConfig": {"iou_head_hidden_dim": 32},
    "SamPromptEncoderConfig": {"hidden_size": 32, "image_size": 32, "patch_size": 8},
    "SamVisionConfig": {"output_channels": 32, "window_size": 2, "mlp_dim": 64},
    "SamHQVisionConfig": {"output_channels": 32, "window_size": 2, "mlp_dim": 64},
    "VideoMAEConfig": {"num_frames": 4},
    "XCLIPVisionConfig": {
        "num_frames": 2,
        "mit_hidden_size": 32,
        "mit_intermediate_size": 32,
        "mit_num_attention_heads": 4,
    },
    "PatchTSTConfig": {
        "num_input_channels": 2,
        "context_length": 32,
        "patch_length": 4,
        "patch_stride": 2,
        "d_model": 32,
        "ffn_dim": 32,
    },
    "PatchTSMixerConfig": {
        "num_input_channels": 2,
        "context_length": 32,
        "patch_length": 8,
        "patch_stride": 8,
        "d_model": 16,
        "self_attn": True,
        "self_attn_heads": 2,
    },
    "Qwen2VLTextConfig": {"rope_parameters": M_ROPE},
    "Qwen2_5OmniTalkerConfig": {"rope_parameters": M_ROPE},
    "Qwen2_5OmniTextConfig": {"rope_parameters": M_ROPE},
    "Qwen2_5_VLTextConfig": {"rope_parameters": M_ROPE},
    "Qwen3OmniMoeTalkerTextConfig": {"shared_expert_intermediate_size": 32, "rope_parameters": M_ROPE},
    "Qwen4ExpTextConfig": {
        "indexer_n_heads": 4,
        "indexer_kv_heads": 2,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "ngram_vocab_size_base": 50,
        "hc_lowrank": 8,
        "split_ngram_parts": 1,
    },
    "SuperPointConfig": {
        "keypoint_decoder_dim": 65,
        "encoder_hidden_sizes": [8, 8, 16, 16],
        "descriptor_decoder_dim": 32,
    },
    "RTDetrConfig": RESNET_DETECTION,
    "RTDetrV2Config": RESNET_DETECTION,
    "Step3p7TextConfig": {"sliding_window": 64},
    "SwinConfig": {
        "image_size": 32,
        "patch_size": 2,
        "embed_dim": 16,
        "depths": (1, 2, 1),
        "num_heads": (2, 2, 4),
        "window_size": 2,
    },
    "TimeSeriesTransformerConfig": SERIES,
    "XmodConfig": {"languages": ("en_XX",), "default_language": "en_XX"},
    "ZambaConfig": {
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "num_hidden_layers": 4,
        "mamba_dt_rank": 4,
    },
    "Zamba2Config": {
        "layers_block_type": ["linear_attention", "hybrid"],
        "n_mamba_heads": 4,
        "mamba_d_state": 16,
        "chunk_size": 16,
        "adapter_rank": 8,
    },
    "ZayaConfig": {"num_experts_per_tok": 1},
}


def _series(model: Any, n: int) -> dict[str, Any]:
    c = model.config
    past = c.context_length + max(c.lags_sequence)
    return {
        "past_values": draw(BATCH, past),
        "past_time_features": draw(BATCH, past, 1),
        "past_observed_mask": torch.ones(BATCH, past),
        "future_values": draw(BATCH, c.prediction_length),
        "future_time_features": draw(BATCH, c.prediction_length, 1),
    }


def _qformer(model: Any, n: int) -> dict[str, Any]:
    c = model.config
    wide = first(c, "encoder_hidden_size", default=32)
    return {"query_embeds": draw(BATCH, n, c.hidden_size), "encoder_hidden_states": draw(BATCH, 9, wide)}


def _codebooks(count: int, last: bool) -> Callable[[Any, int], dict[str, Any]]:
    shape = (BATCH, 20, count) if last else (BATCH * count, 20)
    return lambda model, n: {
        "input_ids": tokens(shape[0], shape[1])
        if not last
        else torch.randint(5, 60, shape, generator=torch.Generator().manual_seed(3))
    }


def _few(n: int) -> Callable[[Any, int], dict[str, Any]]:
    return lambda model, _: {"input_ids": tokens(BATCH, n)}


def _mel(length: int, *more: str) -> Callable[[Any, int], dict[str, Any]]:
    def made(model: Any, n: int) -> dict[str, Any]:
        mel = first(model.config, "num_mel_bins", "feature_size", default=80)
        found = {"input_features": draw(BATCH, mel, length)}
        return found | {name: torch.ones(BATCH, length, dtype=torch.long) for name in more}

    return made


def _sized_patches(model: Any, n: int) -> dict[str, Any]:
    """Two images of 4 × 4 patches, laid out one after the other."""
    size = model.config.patch_size
    return {
        "pixel_values": draw(1, 3, size, 32 * size),
        "target_sizes": torch.tensor([[4, 4], [4, 4]], dtype=torch.int32),
    }


def _paddle(model: Any, n: int) -> dict[str, Any]:
    size = first(model.config, "patch_size")
    return {"pixel_values": draw(1, 32, 3, size, size), "grid_thw": GRID}


def _flattened(config: Any) -> torch.Tensor:
    patches = draw(BATCH, 16, config.patch_embed_hidden_size + 2)
    patches[..., 0] = torch.arange(16) // 4 + 1
    patches[..., 1] = torch.arange(16) % 4 + 1
    return patches


def _segmented(model: Any, n: int) -> dict[str, Any]:
    return {
        "pixel_values": draw(BATCH, 3, 32, 32),
        "input_points": torch.tensor([[[[3.0, 4.0]]], [[[9.0, 7.0]]]]),
    }


def _units(model: Any, n: int) -> dict[str, Any]:
    return {"inputs_embeds": draw(BATCH, n, 32), "decoder_input_ids": tokens(BATCH, n, seed=4)}


def _speech(model: Any, n: int) -> dict[str, Any]:
    return {"input_features": draw(BATCH, 64, 160), "decoder_input_ids": tokens(BATCH, n)}


def _listened(model: Any, n: int) -> dict[str, Any]:
    return {
        "input_features": draw(BATCH, 64, 80),
        "attention_mask": torch.ones(BATCH, 64, dtype=torch.long),
        "decoder_input_ids": tokens(BATCH, n),
    }


def _boxed(model: Any, n: int) -> dict[str, Any]:
    corner = torch.rand(BATCH, n, 2, generator=torch.Generator().manual_seed(7)) / 2
    return {
        "input_ids": tokens(BATCH, n),
        "bbox": torch.cat([corner, corner + 0.25], dim=-1),
        "decoder_input_ids": tokens(BATCH, n, seed=4),
    }


INPUTS: dict[str, Callable[[Any, int], dict[str, Any]]] = {
    "ASTModel": lambda model, n: {
        "input_values": draw(BATCH, model.config.max_length, model.config.num_mel_bins)
    },
    "BridgeTowerVisionModel": lambda model, n: {"image": draw(BATCH, 3, 32, 32)},
    "BridgeTowerModel": lambda model, n: {
        "input_ids": tokens(BATCH, n),
        "pixel_values": draw(BATCH, 3, 32, 32),
        "pixel_mask": torch.ones(BATCH, 32, 32),
    },
    "Blip2QFormerModel": _qformer,
    "InstructBlipQFormerModel": lambda model, n: {**_qformer(model, n), "input_ids": tokens(BATCH, 7)},
    "InstructBlipVideoQFormerModel": lambda model, n: {**_qformer(model, n), "input_ids": tokens(BATCH, 7)},
    "InformerModel": _series,
    "TimeSeriesTransformerModel": _series,
    "KyutaiSpeechToTextModel": _codebooks(5, True),
    "DeepseekOcr2VisionEncoder": lambda model, n: {"inputs_embeds": draw(BATCH, n, 32), "num_patches": 8},
    "DiaDecoder": lambda model, n: {
        "input_ids": torch.randint(5, 60, (BATCH, n, 9), generator=torch.Generator().manual_seed(3)),
        "encoder_hidden_states": draw(BATCH, 7, 32),
    },
    "DiaModel": lambda model, n: {
        "input_ids": tokens(BATCH, n),
        "decoder_input_ids": torch.randint(5, 60, (BATCH, n, 9), generator=torch.Generator().manual_seed(3)),
    },
    "Dots3NoteAudioModel": lambda model, n: {
        "input_features": draw(BATCH, 128, 64),
        "chunk_sample_lengths": torch.tensor([64 * 160, 40 * 160]),
    },
    "EfficientLoFTRModel": lambda model, n: {"pixel_values": draw(1, 2, 1, 32, 32)},
    "FunAsrNanoEncoder": lambda model, n: {
        "input_features": draw(BATCH, n, 560),
        "input_features_mask": torch.ones(BATCH, n, dtype=torch.long),
    },
    "Gemma4VisionModel": lambda model, n: {
        "pixel_values": draw(BATCH, 36, 3 * model.config.patch_size**2),
        "pixel_position_ids": torch.stack(
            torch.meshgrid(torch.arange(6), torch.arange(6), indexing="xy"), dim=-1
        )
        .reshape(1, 36, 2)
        .expand(BATCH, -1, -1),
    },
    "GraniteSpeech5Encoder": lambda model, n: {
        "input_features": draw(BATCH, 48, model.input_linear.in_features)
    },
    "Idefics2PerceiverResampler": lambda model, n: {
        "context": draw(BATCH, n, 32),
        "attention_mask": torch.ones(BATCH, n),
    },
    "MiniCPMOcrVisionModel": _sized_patches,
    "MiniCPMV4_6VisionModel": _sized_patches,
    "MiniCPMV4_7VisionModel": _sized_patches,
    "MllamaVisionModel": lambda model, n: {
        "pixel_values": draw(1, 1, 4, 3, 32, 32),
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(1, 1, 4, dtype=torch.long),
    },
    "MllamaTextModel": lambda model, n: {
        "input_ids": tokens(BATCH, n),
        "cross_attention_states": draw(BATCH, 9, 32),
    },
    "MllamaForCausalLM": lambda model, n: {
        "input_ids": tokens(BATCH, n),
        "cross_attention_states": draw(BATCH, 9, 32),
    },
    "Molmo2VisionModel": lambda model, n: {"pixel_values": draw(BATCH, 16, 3 * model.config.patch_size**2)},
    "MuseGlimmerAssistantModel": lambda model, n: {
        "noise_embeds": draw(BATCH, 8, 32),
        "context_hidden_states": draw(
            BATCH, n, model.encoder.fc.in_features if hasattr(model.encoder, "fc") else 32
        ),
    },
    "PaddleOCRVisionTransformer": _paddle,
    "PaddleOCRVisionModel": _paddle,
    "Phi4MultimodalAudioModel": lambda model, n: {
        "hidden_states": draw(BATCH, 64, model.config.input_size),
        "mask": torch.ones(BATCH, 64, dtype=torch.bool),
    },
    "Pix2StructVisionModel": lambda model, n: {"flattened_patches": _flattened(model.config)},
    "Pix2StructForConditionalGeneration": lambda model, n: {
        "flattened_patches": _flattened(model.config.vision_config),
        "decoder_input_ids": tokens(BATCH, n),
    },
    "Qwen2_5OmniAudioEncoder": lambda model, n: {
        "input_features": draw(128, 2 * 64),
        "feature_lens": torch.tensor([64, 64]),
    },
    "Qwen3OmniMoeAudioEncoder": lambda model, n: {
        "input_features": draw(128, 2 * 64),
        "feature_lens": torch.tensor([64, 64]),
    },
    "Qwen3ASREncoder": lambda model, n: {
        "input_features": draw(BATCH, 128, 4 * model.config.n_window),
        "input_features_mask": torch.ones(BATCH, 4 * model.config.n_window, dtype=torch.long),
    },
    "SamModel": _segmented,
    "SamHQModel": _segmented,
    "Sam3DetrEncoder": lambda model, n: {
        "vision_features": [draw(BATCH, 32, 4, 4)],
        "text_features": draw(BATCH, 7, 32),
        "vision_pos_embeds": [draw(BATCH, 32, 4, 4)],
    },
    "Sam3LiteTextDetrEncoder": lambda model, n: {
        "vision_features": [draw(BATCH, 32, 4, 4)],
        "text_features": draw(BATCH, 7, 32),
        "vision_pos_embeds": [draw(BATCH, 32, 4, 4)],
    },
    "SeamlessM4TTextToUnitModel": _units,
    "SeamlessM4TTextToUnitForConditionalGeneration": _units,
    "SeamlessM4TForSpeechToText": _speech,
    "SeamlessM4Tv2ForSpeechToText": _speech,
    "Siglip2VisionModel": lambda model, n: {
        "pixel_values": draw(BATCH, 16, 3 * model.config.patch_size**2),
        "pixel_attention_mask": torch.ones(BATCH, 16, dtype=torch.long),
        "spatial_shapes": torch.tensor([[4, 4], [4, 4]]),
    },
    "Speech2TextModel": _listened,
    "TimesFmModel": lambda model, n: {
        "past_values": draw(BATCH, 128),
        "past_values_padding": torch.zeros(BATCH, 128),
        "freq": torch.zeros(BATCH, 1, dtype=torch.long),
    },
    "TimesFm2_5Model": lambda model, n: {"past_values": draw(BATCH, 128)},
    "UdopModel": _boxed,
    "UdopForConditionalGeneration": _boxed,
    "UdopEncoderModel": lambda model, n: {
        k: v for k, v in _boxed(model, n).items() if not k.startswith("decoder")
    },
    "VideoLlama3VisionModel": lambda model, n: {
        "pixel_values": draw(32, 3 * model.config.patch_size**2),
        "grid_thw": GRID,
        "merge_sizes": torch.tensor([1, 1]),
    },
    "VoxtralRealtimeTextModel": lambda model, n: {"input_ids": tokens(BATCH, n), "t_cond": draw(1, 32)},
    "XCLIPVisionModel": lambda model, n: {"pixel_values": draw(BATCH * model.config.num_frames, 3, 32, 32)},
    "XCLIPModel": lambda model, n: {
        "input_ids": tokens(BATCH, n),
        "pixel_values": draw(BATCH, model.config.vision_config.num_frames, 3, 32, 32),
    },
    "Florence2VisionBackbone": lambda model, n: {"hidden_states": draw(BATCH, 3, 32, 32)},
    "IdeficsModel": lambda model, n: {
        "input_ids": tokens(BATCH, n),
        "pixel_values": draw(BATCH, 1, 3, 32, 32),
        "image_attention_mask": torch.ones(BATCH, n, 1),
    },
    "IdeficsForVisionText2Text": lambda model, n: {
        "input_ids": tokens(BATCH, n),
        "pixel_values": draw(BATCH, 1, 3, 32, 32),
        "image_attention_mask": torch.ones(BATCH, n, 1),
    },
    "Inkling2VisionModel": lambda model, n: {
        "pixel_values": draw(32, 2 * model.config.patch_size, 2 * model.config.patch_size, 3).movedim(-1, 1),
        "image_grid_thw": GRID,
    },
    "LightGlueForKeypointMatching": lambda model, n: {"pixel_values": draw(1, 2, 3, 64, 64)},
    "Owlv2TextModel": _few(16),
    "OwlViTTextModel": _few(16),
}

BESIDE_PADDING: dict[str, Callable[[torch.Tensor], dict[str, Any]]] = {
    name: lambda mask: {"decoder_attention_mask": torch.cat([mask, torch.ones_like(mask)], dim=1)}
    for name in ("DiffusionGemmaModel", "DiffusionGemmaForBlockDiffusion")
}
"""What some decoders must be told of padding a second time."""
