"""Reads a PEFT folder into weights ready to run: targets fused per site, scale folded into B."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kindling_engine.lora.batch import AdapterWeights, Expand, SiteWeights
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.peft_config import PeftScaling, peft_scaling_read
from kindling_engine.lora.sites import LoraLayout, Target
from kindling_engine.protocol.adapter_files import (
    CONFIG_NAME,
    TENSOR_NAME,
    WEIGHTS_NAME,
    BaseShape,
    check_adapter_folder,
)
from kindling_engine.protocol.findings import Finding


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
    layout: LoraLayout,
    *,
    architecture: str,
    vocab_size: int,
    base_ref: str,
    max_bytes: int,
    device: torch.device,
    dtype: torch.dtype,
) -> LoadedAdapter:
    """Check, read and convert an adapter of at most ``max_bytes`` in memory. Safe to run beside the step loop.

    Raises AdapterError, for the size before anything large is read.
    """
    report = check_adapter_folder(folder, _base_shape(layout, architecture, vocab_size, base_ref))
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
    pairs = _pairs_read(folder / WEIGHTS_NAME)
    values = _values_check(pairs)
    parts_of: dict[int, list[tuple[str, _Pair]]] = {}
    for path in layout.targets:
        if path in pairs:
            parts_of.setdefault(layout.targets[path].site, []).append((path, pairs[path]))
    sites: list[SiteWeights | None] = [None] * layout.num_sites
    for site, parts in parts_of.items():
        sites[site] = _fuse(parts, layout, scaling, device, dtype)
    size = sum(_site_bytes(site) for site in sites if site is not None)
    rank = max(pair.a.shape[0] for pair in pairs.values())
    return LoadedAdapter(AdapterWeights(tuple(sites), size, rank), (*report.findings, values))


def _pairs_read(path: Path) -> dict[str, _Pair]:
    """Every target's A and B; names, shapes and pairs have been checked from the header."""
    halves: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(str(path), framework="pt", device="cpu") as handle:
            for name in handle.keys():  # noqa: SIM118 - the handle is not a mapping
                match = TENSOR_NAME.fullmatch(name)
                if match is not None:
                    halves.setdefault(match[1], {})[match[2]] = handle.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise AdapterError("safetensors_header", f"{WEIGHTS_NAME} cannot be read.") from error
    if not halves:
        raise AdapterError("tensor_shapes", "The adapter holds no LoRA matrices.")
    return {path: _Pair(half["A"], half["B"]) for path, half in halves.items()}


def _values_check(pairs: dict[str, _Pair]) -> Finding:
    zero = 0
    for path, pair in pairs.items():
        if not (bool(pair.a.isfinite().all()) and bool(pair.b.isfinite().all())):
            raise AdapterError(
                "values",
                f"The weights of {path} contain NaN or infinity.",
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
    parts: list[tuple[str, _Pair]],
    layout: LoraLayout,
    scaling: PeftScaling,
    device: torch.device,
    dtype: torch.dtype,
) -> SiteWeights:
    """Stack the A of a site's targets, so that they shrink in one product; keep each B apart, scaled."""
    expands = []
    first = 0
    for path, pair in parts:
        target: Target = layout.targets[path]
        rank = pair.a.shape[0]
        weight = (pair.b.float() * scaling.scale(path, rank)).t().to(device=device, dtype=dtype).contiguous()
        expands.append(Expand(first, first + rank, target.start, target.stop, weight))
        first += rank
    shrink = torch.cat([pair.a.to(device=device, dtype=dtype) for _, pair in parts])
    return SiteWeights(shrink, tuple(expands))


def _site_bytes(site: SiteWeights) -> int:
    return site.shrink.nbytes + sum(expand.weight.nbytes for expand in site.expands)


def _base_shape(layout: LoraLayout, architecture: str, vocab_size: int, ref: str) -> BaseShape:
    """Only ``linears`` decides; the other sizes are those of a family that the layout need not belong to."""
    return BaseShape(
        architecture=architecture,
        hidden_size=0,
        intermediate_size=0,
        num_layers=0,
        num_heads=0,
        num_kv_heads=0,
        head_dim=0,
        vocab_size=vocab_size,
        ref=ref,
        linears=layout.linears(),
    )
