"""Checks a PEFT LoRA folder against its base model without torch: every refusal has a reason and a fix."""

from pathlib import Path

from kindling_engine.protocol.adapter_base import TARGETS, BaseShape, ExpertShape
from kindling_engine.protocol.adapter_config import MAX_CONFIG_BYTES, check_config
from kindling_engine.protocol.adapter_report import (
    CONFIG_NAME,
    MAX_RANK,
    SAVE_AGAIN,
    WEIGHTS_NAME,
    AdapterReport,
)
from kindling_engine.protocol.adapter_tensors import check_safetensors_header
from kindling_engine.protocol.findings import Finding
from kindling_engine.protocol.safetensors_header import LENGTH, HeaderRefused, header_length

__all__ = [
    "CONFIG_NAME",
    "MAX_CONFIG_BYTES",
    "MAX_RANK",
    "SAVE_AGAIN",
    "TARGETS",
    "WEIGHTS_NAME",
    "AdapterReport",
    "BaseShape",
    "ExpertShape",
    "Finding",
    "check_adapter_folder",
    "check_config",
    "check_safetensors_header",
]


def check_adapter_folder(path: Path, base: BaseShape) -> AdapterReport:
    """Check the files of a folder; reads the config and the header, never the weights, and never raises."""
    report = AdapterReport()
    try:
        _check(report, path, base)
    except OSError as error:
        report.add("files", "fail", f"The files cannot be read: {error.strerror}.", "Upload them again.")
    return report


def _check(report: AdapterReport, path: Path, base: BaseShape) -> None:
    config_path, weights_path = path / CONFIG_NAME, path / WEIGHTS_NAME
    for wanted in (config_path, weights_path):
        if not wanted.is_file() or wanted.stat().st_size == 0:
            report.add(
                "files",
                "fail",
                f"{wanted.name} is missing or empty.",
                f"Upload {wanted.name} as PEFT saves it.",
            )
    if not report.ok:
        return
    report.add("files", "pass", "Both files are there.")
    with config_path.open("rb") as file:
        checked = check_config(file.read(MAX_CONFIG_BYTES + 1), base)
    report.findings += checked.findings
    report.rank = checked.rank
    size = weights_path.stat().st_size
    report.size_bytes = config_path.stat().st_size + size
    with weights_path.open("rb") as file:
        try:
            header = file.read(header_length(file.read(LENGTH.size), size))
        except HeaderRefused as refused:
            report.add("safetensors_header", "fail", f"{WEIGHTS_NAME}: {refused}.", SAVE_AGAIN)
            return
    tensors = check_safetensors_header(header, size, base, checked.config)
    report.findings += tensors.findings
    report.rank = tensors.rank or report.rank
    report.target_modules = tensors.target_modules
    report.parameters = tensors.parameters
    report.dtype = tensors.dtype
