"""Qwen3-MoE: Qwen3 with a mixture of experts in place of the MLP, in all layers or in every n-th."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig, ExpertsConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import decoder_config_read
from kindling_engine.models.errors import ModelError


def qwen3_moe(fields: ConfigFields) -> DecoderConfig:
    config = decoder_config_read(fields)
    experts = ExpertsConfig(
        # Newer files write num_local_experts.
        count=fields.count("num_local_experts", fields.count("num_experts", 128)),
        intermediate_size=fields.count("moe_intermediate_size"),
        top_k=fields.count("num_experts_per_tok"),
        normalised=fields.flag("norm_topk_prob"),
    )
    if experts.top_k > experts.count:
        raise ModelError(
            "model_config", f"config.json: {experts.top_k} of {experts.count} experts cannot be chosen."
        )
    fields.any("sliding_window")  # without the switch it says nothing
    window = fields.count("sliding_window") if fields.flag("use_sliding_window") else None
    dense = set(fields.counts("mlp_only_layers") or ())
    step = fields.count("decoder_sparse_step", 1)
    bias = fields.flag("attention_bias")
    return replace(
        config,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        experts=experts,
        layers=tuple(
            LayerConfig(window=window, sparse=index not in dense and (index + 1) % step == 0)
            for index in range(config.num_layers)
        ),
    )
