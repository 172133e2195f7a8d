"""Where adapters attach to a decoder, and the base's weights as adapters want to read them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kindling_engine.lora.sites import (
    ROUTER,
    BaseWeights,
    LoraLayout,
    Mixture,
    Target,
    decoder_layout,
    site_index,
)
from kindling_engine.models.config import DecoderConfig
from kindling_engine.models.errors import ModelError
from kindling_engine.models.weights import Checkpoint
from kindling_engine.protocol.adapter_base import EMBEDDING, HEAD, ExpertShape


def lora_layout(config: DecoderConfig, folder: Path | None = None) -> LoraLayout:
    """Every place of a decoder; ``folder`` is the checkpoint's, for adapters that want the base's weights."""
    plain = decoder_layout(
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        q_size=config.num_heads * config.head_dim,
        kv_size=config.num_kv_heads * config.head_dim,
    )
    sparse = [index for index, layer in enumerate(config.layers) if layer.sparse]
    dense = tuple(f"model.layers.{index}.mlp." for index in sparse)
    targets = {path: target for path, target in plain.targets.items() if not path.startswith(dense or "-")}
    if config.fused_weights:
        targets = _fused(targets)
    prefix, mixtures = config.module_prefix, {}
    if config.experts is not None:
        experts = config.experts
        shape = ExpertShape(
            experts.count, config.hidden_size, experts.intermediate_size, interleaved=experts.joined
        )
        router = "router" if experts.joined else "gate"
        for index in sparse:
            targets[f"model.layers.{index}.mlp.{router}"] = Target(
                site_index(index, ROUTER), config.hidden_size, 0, experts.count
            )
            mixtures[f"{prefix}layers.{index}.mlp.experts"] = Mixture(index, shape)
    widths = (config.vocab_size, config.hidden_size)
    return replace(
        plain,
        targets={prefix + path.removeprefix("model."): target for path, target in targets.items()},
        table=(prefix + EMBEDDING, widths),
        head=None if config.task == "embed" else (HEAD, widths[::-1]),
        mixtures=mixtures,
        base=None if folder is None else partial(_weights_open, config, folder),
    )


class DecoderBase:
    """A decoder's checkpoint by the paths of its modules."""

    def __init__(self, config: DecoderConfig, checkpoint: Checkpoint, device: torch.device) -> None:
        self._device = device
        self._config = config
        self._checkpoint = checkpoint
        prefixes = config.weight_prefixes
        self._prefix = next((p for p in prefixes if f"{p}{EMBEDDING}.weight" in checkpoint), prefixes[0])

    def rows(self, path: str) -> Iterator[Tensor]:
        """``[n, in]`` in fp32, some rows at a time."""
        return self._checkpoint.rows(f"{self._name(path)}.weight")

    def bias(self, path: str) -> Tensor | None:
        """``[out]`` in fp32 of a layer that has one."""
        name = f"{self._name(path)}.bias"
        if name not in self._checkpoint:
            return None
        return self._checkpoint.peek(name).to(self._device).float()

    def _name(self, path: str) -> str:
        if path != HEAD:
            return self._prefix + path.removeprefix(self._config.module_prefix)
        if self._config.tied_embeddings:
            return self._prefix + EMBEDDING
        outer = self._prefix.removesuffix("model.") + HEAD
        return outer if f"{outer}.weight" in self._checkpoint else HEAD


@contextmanager
def _weights_open(config: DecoderConfig, folder: Path, device: torch.device) -> Iterator[BaseWeights]:
    """Raises ModelError when the folder has gone or changed."""
    if not folder.is_dir():
        raise ModelError("weights_missing", "The folder of the base model's weights is not there any more.")
    with Checkpoint(folder, dtype=torch.float32, device=device) as checkpoint:
        yield DecoderBase(config, checkpoint, device)


def _fused(targets: dict[str, Target]) -> dict[str, Target]:
    """The same columns under the names of layers that are stored as one."""
    fused: dict[str, Target] = {}
    names = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj"}
    names |= {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}
    for path, target in targets.items():
        parent, name = path.rsplit(".", 1)
        whole = f"{parent}.{names.get(name, name)}"
        first = fused.get(whole, target)
        fused[whole] = replace(
            target, start=min(first.start, target.start), stop=max(first.stop, target.stop)
        )
    return fused
