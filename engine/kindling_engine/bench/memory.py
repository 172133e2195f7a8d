"""What a process holds in memory, and how fast memory can be read; torch is needed for the latter alone."""

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PROBE_BYTES = 512 << 20
_peak_before_probe_bytes = 0


def resident_bytes() -> int:
    """Resident memory of this process now, mapped files included."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """The most that was ever resident in this process, but for what ``read_gbps`` reads."""
    return max(_peak_before_probe_bytes, _status("VmHWM"))


def read_gbps(device: "torch.device", *, threads: int = 1, repeats: int = 5) -> float:
    """Best observed rate of reading far more than the caches hold, in 10⁹ bytes a second."""
    import torch

    if device.type == "cuda":
        return _cuda_read_gbps(device, repeats)
    before, peak = torch.get_num_threads(), peak_bytes()
    torch.set_num_threads(threads)
    probe = torch.ones(_PROBE_BYTES // 4)
    best_s = min(_seconds(probe) for _ in range(repeats))
    torch.set_num_threads(before)
    del probe
    _peak_restart(peak)
    return _PROBE_BYTES / best_s / 1e9


def _peak_restart(known_bytes: int) -> None:
    """Have the kernel count the peak from here on, and remember the one so far."""
    global _peak_before_probe_bytes  # noqa: PLW0603
    # 5 resets the peak, see proc(5); where it is forbidden, the probe stays in the figure.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        _peak_before_probe_bytes = known_bytes


def _seconds(probe: "torch.Tensor") -> float:
    began = time.perf_counter()
    probe.sum()
    return time.perf_counter() - began


def _cuda_read_gbps(device: "torch.device", repeats: int) -> float:
    """Sums over 8 GiB; the L2 of no device holds a noticeable part of that."""
    import torch

    probe = torch.ones(1 << 31, dtype=torch.float32, device=device)
    probe.sum()
    best_ms = float("inf")
    for _ in range(repeats):
        events: Any = torch.cuda.Event  # untyped in torch
        start, stop = events(enable_timing=True), events(enable_timing=True)
        start.record()
        probe.sum()
        stop.record()
        torch.cuda.synchronize(device)
        best_ms = min(best_ms, float(start.elapsed_time(stop)))
    return probe.numel() * 4 / best_ms / 1e6


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
