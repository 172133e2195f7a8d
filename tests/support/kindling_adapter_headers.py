"""Headers of adapter files as PEFT writes them, and their check against a base of a few small sizes."""

import json
from typing import Any

from kindling_engine.protocol.adapter_files import AdapterReport, BaseShape, check_safetensors_header

BASE = BaseShape("LlamaForCausalLM", 64, 112, 3, 4, 2, 16, 320, "acme/tiny")
CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "base_model_name_or_path": "acme/tiny",
    "r": 8,
    "lora_alpha": 16,
    "target_modules": ["q_proj", "down_proj"],
    "bias": "none",
}
Header = dict[str, Any]


def tensors(targets: tuple[str, ...] = ("q_proj", "down_proj"), rank: int = 8, layers: int = 3) -> Header:
    """A header as PEFT's tensors have it, without gaps."""
    header: Header = {}
    offset = 0
    for layer in range(layers):
        for target in targets:
            block = "mlp" if target in ("gate_proj", "up_proj", "down_proj") else "self_attn"
            width_in, width_out = BASE.linear(target)
            for side, shape in (("A", [rank, width_in]), ("B", [width_out, rank])):
                size = shape[0] * shape[1] * 4
                name = f"base_model.model.model.layers.{layer}.{block}.{target}.lora_{side}.weight"
                header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
                offset += size
    return header


def data_bytes(header: Header) -> int:
    return max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")


def check(header: Header, config: dict[str, Any] | None = None, base: BaseShape = BASE) -> AdapterReport:
    raw = json.dumps(header).encode()
    return check_safetensors_header(raw, 8 + len(raw) + data_bytes(header), base, config)


def failed(report: AdapterReport) -> set[str]:
    """The checks that failed; each has to say what is wrong and what to do."""
    wrong = [finding for finding in report.findings if finding.level == "fail"]
    assert all(finding.message and finding.fix for finding in wrong), wrong
    return {finding.check for finding in wrong}


def header_of(**shapes: list[int]) -> Header:
    """A header of these shapes, by what stands behind ``base_model.model.`` with dots as double underscores."""
    header: Header = {}
    offset = 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        path = "base_model.model." + name.replace("__", ".")
        header[path] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    return header
