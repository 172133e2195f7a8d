"""Looks at what has arrived while the rest is still on its way: a wrong base fails in the first second."""

from pathlib import Path
from typing import Any

import msgspec

from kindling_engine.protocol.adapter_files import (
    SAVE_AGAIN,
    WEIGHTS_NAME,
    AdapterReport,
    BaseShape,
    check_config,
    check_safetensors_header,
)
from kindling_engine.protocol.safetensors_header import LENGTH, HeaderRefused, header_length
from kindling_platform.adapters.files import CONFIG, WEIGHTS
from kindling_platform.catalog.models import Model


def base_shape(model: Model) -> BaseShape:
    """The sizes that an adapter for this model must fit."""
    return BaseShape.of_catalog(
        model.shapes,
        architecture=model.architecture,
        vocab_size=model.vocab_size,
        ref=model.ref,
        vocabulary_hash=model.vocabulary_hash,
    )


def early_report(
    folder: Path, declared: dict[str, int], received: dict[str, int], base: BaseShape
) -> AdapterReport:
    """Check the config if it is whole and the weights' header if it is there; `declared` and `received` in bytes."""
    report = AdapterReport()
    config = None
    if CONFIG in declared and received.get(CONFIG, 0) >= declared[CONFIG]:
        checked = check_config((folder / CONFIG).read_bytes(), base)
        report.findings += checked.findings
        config = checked.config
    arrived = received.get(WEIGHTS, 0)
    if arrived >= LENGTH.size:
        with (folder / WEIGHTS).open("rb") as file:
            try:
                length = header_length(file.read(LENGTH.size), declared[WEIGHTS])
            except HeaderRefused as refused:
                report.add("safetensors_header", "fail", f"{WEIGHTS_NAME}: {refused}.", SAVE_AGAIN)
                return report
            if arrived >= LENGTH.size + length:
                header = check_safetensors_header(file.read(length), declared[WEIGHTS], base, config)
                report.findings += header.findings
    return report


def report_json(report: AdapterReport) -> dict[str, Any]:
    """A report as it is stored and shown."""
    return {
        "findings": [msgspec.to_builtins(finding) for finding in report.findings],
        "rank": report.rank,
        "target_modules": report.target_modules,
        "parameters": report.parameters,
        "dtype": report.dtype,
        "size_bytes": report.size_bytes,
    }
