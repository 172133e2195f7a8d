"""The GPU's path through attention and sampling on a CPU: our own kernels' references in the kernels' place."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kindling_engine.layers.attention_paged import HeadNorms, PagedAttention
from kindling_engine.layers.attention_spec import AttentionSpec
from kindling_engine.lora.batch import LoraBatch, LoraGroup
from kindling_engine.lora.slabs import DeviceSlabs
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


def slab_lora_in_torch(slabs: DeviceSlabs):
    """In place of ``runner.slab_lora.slab_lora_for``."""
    return partial(_slab_lora, slabs)


def _slab_lora(
    slabs: DeviceSlabs, slots: Tensor, groups: tuple[LoraGroup, ...], num_adapters: int | None
) -> LoraBatch:
    from kindling_engine.kernels.lora_segment import block_for, segments_reference

    segments = segments_reference(slots, block_for(len(slots)), num_slots=num_adapters or slabs.num_slots)
    return TorchSlabBatch(groups, slabs, segments)


@dataclass(frozen=True, slots=True)
class TorchSlabBatch(LoraBatch):
    """``lora.device.DeviceLoraBatch`` with the kernels' references."""

    slabs: DeviceSlabs
    segments: object

    def add(self, output: Tensor, x: Tensor, site: int) -> None:
        from kindling_engine.kernels.lora_expand import lora_expand_reference
        from kindling_engine.kernels.lora_shrink import lora_shrink_reference

        tables, shape = self.slabs.tables, self.slabs.shapes[site]
        if not shape.widths:
            return
        shrunk = lora_shrink_reference(x, self.segments, tables, site)
        output.copy_(lora_expand_reference(shrunk, self.segments, tables, site, shape, output))
        LoraBatch.add(self, output, x, site)


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
