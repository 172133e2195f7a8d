"""What the device does at most, measured in the run whose kernels are held against it."""

from dataclasses import dataclass

import torch

from kindling_engine.bench.memory import read_gbps
from kindling_engine.kernels.clock import Clock


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Rates in 10⁹ bytes and 10¹² operations a second; a copy's bytes count both ways."""

    read_gbps: float
    copy_gbps: float
    tflops: float

    def us(self, *, bytes_read: float, bytes_written: float, flops: float) -> float:
        """The least time for so much work: memory or arithmetic, whichever takes longer.

        Bytes read alone go at the rate of reading; what is written, and as much of what is read, at that of copying.
        """
        copied = 2 * min(bytes_read, bytes_written) + max(0.0, bytes_written - bytes_read)
        memory = copied / self.copy_gbps + max(0.0, bytes_read - bytes_written) / self.read_gbps
        return 1e6 * max(memory / 1e9, flops / (self.tflops * 1e12))


def ceilings_measure(device: torch.device, clock: Clock, *, size: int = 8192) -> Ceilings:
    """Copy and read 1 GiB and more, and multiply square matrices of ``size`` in the device's own dtype."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    elements = 1 << 29 if device.type == "cuda" else 1 << 22
    source = torch.ones(elements, dtype=dtype, device=device)
    target = torch.empty_like(source)
    copy_us = clock.us([lambda: target.copy_(source)] * 2)
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    out = torch.empty_like(a)
    matmul_us = clock.us([lambda: torch.mm(a, b, out=out)] * 4)
    return Ceilings(
        read_gbps=read_gbps(device),
        copy_gbps=2 * source.nbytes / copy_us / 1e3,
        tflops=2 * size**3 / matmul_us / 1e6,
    )
