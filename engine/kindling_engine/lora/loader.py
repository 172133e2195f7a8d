"""Reads a PEFT folder into weights ready to run."""

import json
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from kindling_engine.lora.assembly import Assembler
from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.reader import FactorReader
from kindling_engine.lora.sites import LoraLayout
from kindling_engine.lora.slab_layout import PackedAdapter
from kindling_engine.models.errors import ModelError
from kindling_engine.protocol.adapter_files import CONFIG_NAME, WEIGHTS_NAME, BaseShape, check_adapter_folder
from kindling_engine.protocol.adapter_parts import Part, adapter_assemble
from kindling_engine.protocol.adapter_rules import ModuleRules, RulesRefused
from kindling_engine.protocol.findings import Finding


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """Weights on the serving device, and what was noticed while reading them.

    ``packed`` holds the matrices of the sites where they go to a pool; the weights have none then.
    """

    weights: AdapterWeights
    findings: tuple[Finding, ...]
    packed: PackedAdapter | None = None


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
    in_slabs: bool = False,
) -> LoadedAdapter:
    """Check, read and convert an adapter of at most ``max_bytes`` in memory. Safe to run beside the step loop.

    With ``in_slabs`` what a slab can hold stays in the host's memory, from where one copy brings it to the device.
    Raises AdapterError, for the size before anything large is read.
    """
    shape = _base_shape(layout, architecture, vocab_size, base_ref)
    report = check_adapter_folder(folder, shape)
    for finding in report.findings:
        if finding.level == "fail":
            raise AdapterError(finding.check, finding.message, finding.fix)
    try:
        rules = ModuleRules(json.loads((folder / CONFIG_NAME).read_bytes()))
        with safe_open(str(folder / WEIGHTS_NAME), framework="pt", device="cpu") as handle:
            names = handle.keys()
            shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in names}
            parts = adapter_assemble(shapes, shape).parts
            assembler = Assembler(parts, layout)
            _size_check(assembler.size_bytes(dtype), max_bytes)
            wants_base = any(part.magnitude or part.base for part in parts)
            with layout.base(device) if wants_base and layout.base is not None else nullcontext() as base:
                reader = FactorReader(handle, rules, base, device)
                target = torch.device("cpu") if in_slabs and assembler.plain else device
                weights = assembler.make(reader.read, target, dtype)
    except (SafetensorError, OSError) as error:
        raise AdapterError("safetensors_header", f"{WEIGHTS_NAME} cannot be read.") from error
    except RulesRefused as refused:
        raise AdapterError(refused.check, f"{refused}.", refused.fix) from refused
    except ModelError as error:
        raise AdapterError("base_model", f"The base's weights cannot be read: {error.message}") from error
    return LoadedAdapter(weights, (*report.findings, _zeros(parts, reader.zero)))


def _size_check(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise AdapterError(
            "size",
            f"The adapter needs {size_bytes >> 20} MiB; "
            f"this replica holds adapters of up to {max_bytes >> 20} MiB.",
        )


def _zeros(parts: tuple[Part, ...], zero: int) -> Finding:
    if zero == len(parts):
        return Finding(
            "values",
            "warn",
            "Every lora_B is zero, so the adapter changes nothing.",
            "Upload the weights from the end of the training, not from its start.",
        )
    if zero:
        return Finding("values", "warn", f"lora_B is zero in {zero} of {len(parts)} targets.")
    return Finding("values", "pass", f"All {2 * len(parts)} matrices are finite, and no lora_B is zero.")


def _base_shape(layout: LoraLayout, architecture: str, vocab_size: int, ref: str) -> BaseShape:
    """Only the layout decides; the other sizes are those of a family that it need not belong to."""
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
        embeddings={} if layout.table is None else dict((layout.table,)),
        experts={path: mixture.shape for path, mixture in layout.mixtures.items()},
        unseen=layout.unseen,
    )
