"""Reads a PEFT folder into weights ready to run: targets fused per site, scale folded into B."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kindling_engine.lora.batch import AdapterWeights, Expand, SiteWeights
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.peft_config import PeftScaling, peft_scaling_read
from kindling_engine.lora.sites import SITES_PER_LAYER, Target, site_index, targets
from kindling_engine.models.config import DecoderConfig
from kindling_engine.protocol.adapter_files import (
    CONFIG_NAME,
    TENSOR_NAME,
    WEIGHTS_NAME,
    BaseShape,
    check_adapter_folder,
)
from kindling_engine.protocol.ipc import Finding


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """Weights on the serving device, and what was noticed while reading them."""

    weights: AdapterWeights
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A ``[r, in]`` and B ``[out, r]`` of one target, as stored."""

    a: Tensor
    b: Tensor


@torch.inference_mode()
def adapter_load(
    folder: Path,
    config: DecoderConfig,
    *,
    base_ref: str,
    max_bytes: int,
    device: torch.device,
    dtype: torch.dtype,
) -> LoadedAdapter:
    """Check, read and convert an adapter of at most ``max_bytes`` in memory. Safe to run beside the step loop.

    Raises AdapterError, for the size before anything large is read.
    """
    report = check_adapter_folder(folder, _base_shape(config, base_ref))
    for finding in report.findings:
        if finding.level == "fail":
            raise AdapterError(finding.check, finding.message)
    if report.parameters * dtype.itemsize > max_bytes:
        raise AdapterError(
            "size",
            f"The adapter needs {report.parameters * dtype.itemsize >> 20} MiB; "
            f"this replica holds adapters of up to {max_bytes >> 20} MiB.",
        )
    scaling = peft_scaling_read(folder / CONFIG_NAME)
    known = targets(config)
    pairs = _pairs_read(folder / WEIGHTS_NAME)
    values = _values_check(pairs)
    sites: list[SiteWeights | None] = [None] * (config.num_layers * SITES_PER_LAYER)
    for layer in range(config.num_layers):
        for site in range(SITES_PER_LAYER):
            names = [name for name, target in known.items() if target.site == site and (layer, name) in pairs]
            if names:
                parts = [(known[name], pairs[layer, name]) for name in names]
                sites[site_index(layer, site)] = _fuse(layer, parts, scaling, device, dtype)
    size = sum(_site_bytes(site) for site in sites if site is not None)
    rank = max(pair.a.shape[0] for pair in pairs.values())
    return LoadedAdapter(AdapterWeights(tuple(sites), size, rank), (*report.findings, values))


def _pairs_read(path: Path) -> dict[tuple[int, str], _Pair]:
    """Every target's A and B; names, shapes and pairs have been checked from the header."""
    halves: dict[tuple[int, str], dict[str, Tensor]] = {}
    try:
        with safe_open(str(path), framework="pt", device="cpu") as handle:
            for name in handle.keys():  # noqa: SIM118 - the handle is not a mapping
                match = TENSOR_NAME.fullmatch(name)
                if match is not None:
                    halves.setdefault((int(match[1]), match[2]), {})[match[3]] = handle.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise AdapterError("safetensors_header", f"{WEIGHTS_NAME} cannot be read.") from error
    if not halves:
        raise AdapterError("tensor_shapes", "The adapter holds no LoRA matrices.")
    return {place: _Pair(half["A"], half["B"]) for place, half in halves.items()}


def _values_check(pairs: dict[tuple[int, str], _Pair]) -> Finding:
    zero = 0
    for (layer, name), pair in pairs.items():
        if not (bool(pair.a.isfinite().all()) and bool(pair.b.isfinite().all())):
            raise AdapterError(
                "values",
                f"The weights of {name} in layer {layer} contain NaN or infinity.",
                "The training diverged: train again with a lower learning rate, or upload an earlier checkpoint.",
            )
        zero += not bool(pair.b.any())
    if zero == len(pairs):
        return Finding(
            "values",
            "warn",
            "Every lora_B is zero, so the adapter changes nothing.",
            "Upload the weights from the end of the training, not from its start.",
        )
    if zero:
        return Finding("values", "warn", f"lora_B is zero in {zero} of {len(pairs)} targets.")
    return Finding("values", "pass", f"All {2 * len(pairs)} matrices are finite, and no lora_B is zero.")


def _fuse(
    layer: int,
    parts: list[tuple[Target, _Pair]],
    scaling: PeftScaling,
    device: torch.device,
    dtype: torch.dtype,
) -> SiteWeights:
    """Stack the A of a site's targets, so that they shrink in one product; keep each B apart, scaled."""
    expands = []
    first = 0
    for target, pair in parts:
        rank = pair.a.shape[0]
        scale = scaling.scale(f"model.layers.{layer}.{target.module}", rank)
        weight = (pair.b.float() * scale).t().to(device=device, dtype=dtype).contiguous()
        expands.append(Expand(first, first + rank, target.start, target.stop, weight))
        first += rank
    shrink = torch.cat([pair.a.to(device=device, dtype=dtype) for _, pair in parts])
    return SiteWeights(shrink, tuple(expands))


def _site_bytes(site: SiteWeights) -> int:
    return site.shrink.nbytes + sum(expand.weight.nbytes for expand in site.expands)


def _base_shape(config: DecoderConfig, ref: str) -> BaseShape:
    return BaseShape(
        architecture=config.architecture,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        ref=ref,
    )
