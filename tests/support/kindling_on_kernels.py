"""A decoder on nothing but the kernels of a GPU, wherever its tensors are."""

import pytest

from kindling_engine.core import loops
from kindling_engine.layers import mlp, moe, norm
from kindling_engine.layers.attention_cuda import CudaAttention
from kindling_engine.layers.expert_kernels_cuda import CudaExpertKernels
from kindling_engine.layers.row_kernels_cuda import CudaRowKernels
from kindling_engine.models import decoder_weights
from kindling_engine.runner import device_runner
from kindling_engine.runner.graphs import DecodeGraphs
from kindling_engine.sampling.device import KernelSampler
from kindling_engine.sampling.device_kernel import kernel_sample


def kernels_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded from now on has its rows on the device and overlaps its steps, whose graphs are launched."""
    monkeypatch.setattr(loops, "WORKING_APART", {"cpu"})
    monkeypatch.setattr(decoder_weights, "paged_attention_for", CudaAttention)
    monkeypatch.setattr(decoder_weights, "in_groups", lambda device: True)
    monkeypatch.setattr(moe, "expert_kernels_for", lambda device_type: CudaExpertKernels())
    for module in (norm, mlp):
        monkeypatch.setattr(module, "row_kernels_for", lambda device_type: CudaRowKernels())
    monkeypatch.setattr(device_runner, "device_sampler_for", lambda device: KernelSampler(kernel_sample))
    monkeypatch.setattr(DecodeGraphs, "run", lambda graphs, size: graphs._step(size))
