"""The whole engine over HTTP: start, time to first token, tokens per second, what the front costs, idle cost."""

import asyncio
import os
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp

from kindling_engine.bench.engine_process import EngineUnderTest, engine_run
from kindling_engine.bench.figures import BenchOptions, Figures, circumstances

CONCURRENT = 8
TOKENS = 128
WORDS = "Tell me about the fox and the forest and the sea and the parcel that never came. "
IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Burst:
    """Streams sent at the same time. Times in seconds."""

    wall_s: float
    tokens: int
    first_s: list[float]
    front_cpu_s: float


def serving_measure(options: BenchOptions) -> Figures:
    """Start an engine several times, load the last one."""
    starts = []
    for _ in range(options.repeats - 1):
        with engine_run(options.model, options.device) as engine:
            starts.append(engine.start_s)
    with engine_run(options.model, options.device) as engine:
        starts.append(engine.start_s)
        asyncio.run(_burst(engine, 2))  # the first requests of a life pay for imports and caches
        alone = [asyncio.run(_burst(engine, 1)) for _ in range(options.repeats)]
        together = [asyncio.run(_burst(engine, CONCURRENT)) for _ in range(options.repeats)]
        idle = _idle_cpu_ms_per_s(engine)
        memory = _resident_mb(engine.pid)
    return Figures(
        {
            **circumstances(),
            "start_s": median(starts),
            "one_stream_tok_s": median(burst.tokens / burst.wall_s for burst in alone),
            "one_stream_ttft_ms": 1000 * median(first for burst in alone for first in burst.first_s),
            "eight_streams_tok_s": median(burst.tokens / burst.wall_s for burst in together),
            "eight_streams_ttft_ms": 1000 * median(first for burst in together for first in burst.first_s),
            "front_cpu_ms_per_stream": 1000 * median(burst.front_cpu_s / CONCURRENT for burst in together),
            "tokens_per_stream": TOKENS,
            "idle_cpu_ms_per_s": idle,
            "front_rss_mb": memory,
        }
    )


async def _burst(engine: EngineUnderTest, count: int) -> Burst:
    async with aiohttp.ClientSession() as http:
        cpu_s, began = engine.cpu_s(engine.pid), time.monotonic()
        results = await asyncio.gather(*(_stream(engine, http) for _ in range(count)))
        wall_s = time.monotonic() - began
        return Burst(
            wall_s=wall_s,
            tokens=count * TOKENS,
            first_s=list(results),
            front_cpu_s=engine.cpu_s(engine.pid) - cpu_s,
        )


async def _stream(engine: EngineUnderTest, http: aiohttp.ClientSession) -> float:
    """Stream one answer to its end; gives the time to its first text."""
    body: dict[str, Any] = {
        "model": "bench",
        "prompt": f"{uuid.uuid4()} {WORDS}",  # no two share a prefix, so nothing comes from the cache
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
    }
    headers = {"x-kindling-request": str(uuid.uuid4())}
    began, first_s = time.monotonic(), None
    async with http.post(f"{engine.url}/v1/completions", json=body, headers=headers) as reply:
        reply.raise_for_status()
        raw = b""
        async for part in reply.content.iter_any():
            first_s = time.monotonic() - began if first_s is None else first_s
            raw = (raw + part)[-2000:]
    if f'"completion_tokens":{TOKENS}'.encode() not in raw:
        raise RuntimeError("a stream ended early; its figures would mean nothing")
    return first_s or 0.0


def _idle_cpu_ms_per_s(engine: EngineUnderTest) -> float:
    time.sleep(1.5)  # the last statistics of the load are still on their way
    before = engine.cpu_s(engine.pid) + engine.cpu_s(engine.core_pid)
    time.sleep(IDLE_S)
    return 1000 * (engine.cpu_s(engine.pid) + engine.cpu_s(engine.core_pid) - before) / IDLE_S


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
