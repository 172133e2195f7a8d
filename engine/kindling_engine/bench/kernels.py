"""Every kernel against what the device can do at most, and against its peers."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from kindling_engine.bench.contest import say
from kindling_engine.bench.figures import BenchOptions, DeviceMissingError, Figures, Value, circumstances
from kindling_engine.bench.kernel.ceilings import Ceilings, ceilings_measure
from kindling_engine.bench.kernel.contest import rows_measure
from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels.clock import Clock, GraphClock

# Below this the device is shared or throttled, and its figures say nothing about a kernel.
LEAST_READ_GBPS = 4000.0


def kernels_measure(options: BenchOptions) -> Figures:
    """Figures of a CUDA device. Raises DeviceMissingError where there is none: an interpreter's speed says nothing."""
    if not torch.cuda.is_available():
        raise DeviceMissingError(
            "The kernels can be timed on a CUDA device only, and there is none here. Their numbers are checked without "
            "one by ./kindling test."
        )
    device = torch.device("cuda")
    clock = GraphClock()
    ceilings = ceilings_measure(device, clock)
    say(
        f"{torch.cuda.get_device_name(device)}: reads {ceilings.read_gbps:,.0f} GB/s, copies {ceilings.copy_gbps:,.0f} "
        f"GB/s, multiplies {ceilings.tflops:,.0f} TFLOP/s"
    )
    problems = problems_of(device, torch.bfloat16, quick=options.quick)
    figures = figures_of(problems, ceilings, clock)
    values: dict[str, Value] = {
        **circumstances(),
        "device": "cuda",
        "gpu": torch.cuda.get_device_name(device),
        **figures,
    }
    if ceilings.read_gbps < LEAST_READ_GBPS:
        values["void"] = f"the memory reads at {ceilings.read_gbps:,.0f} GB/s, below {LEAST_READ_GBPS:,.0f}"
    return Figures(values)


def problems_of(device: torch.device, dtype: torch.dtype, *, quick: bool) -> Iterator[Problem]:
    """All rows of the bench; a few of each operation where it has to be quick."""
    from kindling_engine.bench.kernel.decode_problems import decode_problems
    from kindling_engine.bench.kernel.layer_problems import gate_problems, rope_problems
    from kindling_engine.bench.kernel.lora_problems import lora_problems
    from kindling_engine.bench.kernel.norm_problems import norm_problems
    from kindling_engine.bench.kernel.prefill_problems import prefill_problems
    from kindling_engine.bench.kernel.product_problems import fp8_problems, moe_problems
    from kindling_engine.bench.kernel.sampling_problems import sampling_problems

    made = (
        decode_problems(device, dtype),
        prefill_problems(device, dtype),
        rope_problems(device, dtype),
        norm_problems(device, dtype),
        gate_problems(device, dtype),
        sampling_problems(device),
        moe_problems(device, dtype),
        fp8_problems(device),
        lora_problems(device, dtype),
    )
    for problems in made:
        listed = list(problems)
        yield from listed[:: max(1, len(listed) // 2)] if quick else listed


def figures_of(problems: Iterable[Problem], ceilings: Ceilings, clock: Clock) -> dict[str, Any]:
    """The keys of the report: ceilings, and a row for each problem."""
    rows, failed = rows_measure(problems, ceilings, clock)
    behind = [row for row in rows if row.peers_us and min(row.peers_us.values()) < row.us]
    return {
        "ceiling_read_gbps": ceilings.read_gbps,
        "ceiling_copy_gbps": ceilings.copy_gbps,
        "ceiling_tflops": ceilings.tflops,
        "slower_where": "; ".join(f"{row.problem.op} {row.problem.shape}" for row in behind) or "nowhere",
        "failed": failed,
        "rows": [row.values() for row in rows],
    }
