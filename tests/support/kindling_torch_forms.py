"""The GPU's path through attention and sampling on a CPU: our own kernels' references in the kernels' place."""

import torch
from torch import Tensor

from kindling_engine.layers.attention_paged import HeadNorms, PagedAttention
from kindling_engine.layers.attention_spec import AttentionSpec
from kindling_engine.sampling.device import KernelSampler


def paged_attention_in_torch(
    device: torch.device, *, heads: int, spec: AttentionSpec, norms: HeadNorms | None
) -> PagedAttention:
    """In place of ``layers.attention_paged.paged_attention_for``."""
    from kindling_engine.kernels.rope_kv import rope_kv_reference
    from kindling_engine.layers.attention_cuda import CudaAttention

    return CudaAttention(
        device,
        heads=heads,
        spec=spec,
        norms=norms,
        position=rope_kv_reference,
        decode=_decode,
        prefill=_prefill,
    )


def kernel_sampler_in_torch() -> KernelSampler:
    """What a GPU samples with."""
    from kindling_engine.kernels.sampling import sample_reference
    from kindling_engine.sampling.device_kernel import kernel_sample

    def draw(logits: Tensor, rows):
        return sample_reference(logits, rows)[0]

    return KernelSampler(lambda logits, *columns: kernel_sample(logits, *columns, draw=draw))


def _decode(
    query: Tensor, keys: Tensor, values: Tensor, tables: Tensor, rows: Tensor, lengths: Tensor, **more
):
    starts = torch.arange(len(rows) + 1)
    return _attended(query, keys, values, tables, rows, starts, lengths, **more)


def _prefill(query: Tensor, *arguments: Tensor, max_query: int, **more) -> Tensor:
    starts = arguments[4]
    assert int(starts.diff().max()) <= max_query and int(starts[-1]) == len(query)
    return _attended(query, *arguments, **more)


def _attended(*arguments: Tensor, spec: AttentionSpec, out: Tensor, **more) -> Tensor:
    from kindling_engine.kernels.paged_reference import paged_reference

    del more  # how a kernel cuts its work
    return out.copy_(paged_reference(*arguments, spec=spec)[0])
