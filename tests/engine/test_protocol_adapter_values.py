"""Every number of an adapter's file, looked at without torch: what an engine would say of it, in the same words."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kindling_engine.protocol.adapter_report import WEIGHTS_NAME, AdapterReport
from kindling_engine.protocol.adapter_values import check_adapter_values

A, B = "base.model.layers.0.q_proj.lora_A.weight", "base.model.layers.0.q_proj.lora_B.weight"
OTHER = "base.model.layers.1.q_proj.lora_B.weight"
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def found(folder: Path, **tensors: torch.Tensor) -> tuple[str, str]:
    save_file({name: one.clone() for name, one in tensors.items()}, folder / WEIGHTS_NAME)
    report = AdapterReport()
    check_adapter_values(report, folder)
    (finding,) = report.findings
    assert finding.check == "values"
    return finding.level, finding.message


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_that_are_none_are_found_wherever_they_are(tmp_path: Path, dtype: torch.dtype):
    good = torch.linspace(-3, 3, (1 << 20) + 3).to(dtype)
    for place in (0, 1 << 19, -1):
        for bad in (float("nan"), float("inf"), -float("inf")):
            broken = good.clone()
            broken[place] = bad
            level, message = found(tmp_path, **{A: good, B: broken})
            assert level == "fail" and message == f"{B} contains NaN or infinity."
    largest = torch.tensor([torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal / 4], dtype=dtype)
    assert found(tmp_path, **{A: good, B: largest})[0] == "pass"


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_are_told_by_how_many_there_are(tmp_path: Path, dtype: torch.dtype):
    some, none = torch.tensor([0.0, 1e-5], dtype=dtype), torch.tensor([0.0, -0.0], dtype=dtype)
    assert found(tmp_path, **{A: none, B: some, OTHER: some})[0] == "pass"
    assert found(tmp_path, **{A: some, B: none, OTHER: some}) == ("warn", "lora_B is zero in 1 of 2 targets.")
    assert found(tmp_path, **{A: some, B: none, OTHER: none})[1].startswith("Every lora_B is zero")
