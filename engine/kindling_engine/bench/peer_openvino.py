"""OpenVINO GenAI as a peer: its continuous batching with prefix caching, and its pipeline with the cache as state.

Weights, arithmetic and cache are fp32; by default it would compute with less where the processor can. It looks for
known prefixes when a request arrives, so requests that arrive together each compute theirs.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kindling_engine.bench.openvino_graph import graph_convert
from kindling_engine.bench.peer_venv import PeerVenv
from kindling_engine.bench.run import Run

VERSION = "2026.4.1"
CONTINUOUS, STATEFUL = "continuous", "stateful"
MODES = (CONTINUOUS, STATEFUL)
_BLOCK_TOKENS = 32

VENV = PeerVenv(
    "openvino",
    VERSION,
    (
        "numpy==2.4.6",
        f"openvino=={VERSION}",
        f"openvino-tokenizers=={VERSION}.0",
        f"openvino-genai=={VERSION}.0",
    ),
)

# Generated tokens by prompt.
Generate = Callable[[list[list[int]], int], list[list[int]]]


def openvino_prepare() -> Callable[[Path, dict[str, Any]], Any]:
    """Import what the peer needs; an import that fails is its reason."""
    import openvino
    import openvino_genai

    del openvino, openvino_genai
    return OpenVinoSubject


class OpenVinoSubject:
    """One pipeline for each mode and number of threads, compiled when it is first asked for."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder = folder / "openvino"
        self._kv_tokens = int(settings["kv_tokens"])
        graph_convert(folder, self._folder)
        self._pipelines: dict[tuple[str, int], Generate] = {}

    def facts(self, mode: str = "") -> dict[str, Any]:
        del mode
        return {}

    def run(self, prompts: list[list[int]], output: int, *, threads: int, mode: str) -> Run:
        generate = self._pipeline(mode, threads)
        began, cpu_began = time.perf_counter(), time.process_time()
        made = sum(map(len, generate(prompts, output)))
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        if made != len(prompts) * output:
            raise RuntimeError(f"{made} tokens came instead of {len(prompts) * output}")
        return Run(wall_s, made, cpu_s=cpu_s)

    def tokens(self, prompts: list[list[int]], output: int, *, threads: int, mode: str) -> list[list[int]]:
        return self._pipeline(mode, threads)(prompts, output)

    def _pipeline(self, mode: str, threads: int) -> Generate:
        if (mode, threads) not in self._pipelines:
            properties = {
                "INFERENCE_PRECISION_HINT": "f32",
                "KV_CACHE_PRECISION": "f32",
                "INFERENCE_NUM_THREADS": threads,
            }
            make = self._continuous if mode == CONTINUOUS else self._stateful
            self._pipelines[mode, threads] = make(properties)
        return self._pipelines[mode, threads]

    def _continuous(self, properties: dict[str, Any]) -> Generate:
        import numpy as np
        import openvino
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.num_kv_blocks = -(-self._kv_tokens // _BLOCK_TOKENS)
        scheduler.enable_prefix_caching = True
        pipeline = openvino_genai.ContinuousBatchingPipeline(str(self._folder), scheduler, "CPU", properties)

        def generate(prompts: list[list[int]], output: int) -> list[list[int]]:
            inputs = [openvino.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts]
            results = pipeline.generate(inputs, [_greedy(output)] * len(prompts))
            return [result.m_generation_ids[0] for result in results]

        return generate

    def _stateful(self, properties: dict[str, Any]) -> Generate:
        import numpy as np
        import openvino
        import openvino_genai

        pipeline = openvino_genai.LLMPipeline(
            str(self._folder), "CPU", ATTENTION_BACKEND="SDPA", **properties
        )

        def generate(prompts: list[list[int]], output: int) -> list[list[int]]:
            ids = np.array(prompts, dtype=np.int64)
            inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
            return list(pipeline.generate(inputs, _greedy(output)).tokens)

        return generate


def _greedy(output: int) -> Any:
    import openvino_genai

    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = output
    config.ignore_eos = True
    config.do_sample = False
    return config
