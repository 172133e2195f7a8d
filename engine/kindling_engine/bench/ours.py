"""Our own engine as a bench runs it: model, scheduler and runner in one process, without HTTP."""

import time
from itertools import count
from pathlib import Path
from typing import Any

import torch

from kindling_engine.bench.run import Run
from kindling_engine.bench.workloads import Workload
from kindling_engine.kvcache.manager import PAGE_SIZE, KvManager
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.models.base import Model
from kindling_engine.models.registry import model_load
from kindling_engine.runner.runner import ModelRunner, RunnerPayload
from kindling_engine.runner.threads import thread_candidates, threads_choose
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.scheduler.request import Request
from kindling_engine.scheduler.scheduler import Scheduler

_GREEDY = RunnerPayload(SamplingParams(temperature=0.0))


class OurEngine:
    """A model with its cache and loop."""

    def __init__(self, model: Model, *, kv_tokens: int, max_batch: int, step_tokens: int) -> None:
        config = model.config
        num_blocks = -(-kv_tokens // PAGE_SIZE) + 1
        storage = KvStorage(
            num_layers=config.num_layers_kv,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            num_blocks=num_blocks,
            dtype=model.dtype,
            device=model.device,
        )
        self.kv_bytes = num_blocks * KvStorage.block_bytes(
            num_layers=config.num_layers_kv,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=model.dtype,
        )
        self.vocab_size = config.vocab_size
        self._device = model.device
        self._scheduler = Scheduler(
            kv=KvManager(num_blocks=num_blocks, revision=config.revision, kv_dtype=str(model.dtype)),
            context_length=config.context_length,
            max_batch=max_batch,
            step_tokens=step_tokens,
        )
        self._runner = ModelRunner(
            model,
            storage,
            max_batch=max_batch,
            max_length=self._scheduler.max_length,
            adapter_lookup=_no_adapter,
        )
        self._made = 0

    @classmethod
    def load(
        cls, folder: Path, *, device: torch.device, kv_tokens: int, max_batch: int, step_tokens: int
    ) -> "OurEngine":
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        model = model_load(folder, device=device, dtype=dtype)
        return cls(model, kv_tokens=kv_tokens, max_batch=max_batch, step_tokens=step_tokens)

    def run(self, prompts: list[list[int]], output: int) -> Run:
        """Generate exactly ``output`` tokens for each prompt, greedily, all submitted at once."""
        self._synchronize()
        began, cpu_began = time.perf_counter(), time.process_time()
        for prompt in prompts:
            self._submit(prompt, output)
        first_s: dict[str, float] = {}
        tokens, decode_tokens, all_first_s = 0, 0, 0.0
        while self._scheduler.has_work:
            plan = self._scheduler.plan(time.monotonic())
            if plan is None:
                raise RuntimeError("the load does not fit into the configured cache")
            draws = self._runner.execute(plan)
            outcomes = self._scheduler.commit(plan, [draw.token for draw in draws], time.monotonic())
            now_s = time.perf_counter() - began
            for outcome in outcomes:
                if outcome.finish not in {"", "length"}:
                    raise RuntimeError(f"a request ended with {outcome.finish}: {outcome.error}")
                tokens += outcome.token is not None
                first_s.setdefault(outcome.request.id, now_s)
            if all_first_s:
                decode_tokens += len(outcomes)
            elif len(first_s) == len(prompts):
                all_first_s = now_s
        self._synchronize()
        wall_s = time.perf_counter() - began
        if tokens != len(prompts) * output:
            raise RuntimeError(f"{tokens} tokens came instead of {len(prompts) * output}")
        return Run(
            wall_s,
            tokens,
            cpu_s=time.process_time() - cpu_began,
            first_s=list(first_s.values()),
            decode_s=wall_s - all_first_s,
            decode_tokens=decode_tokens,
        )

    def _submit(self, prompt: list[int], output: int) -> None:
        self._made += 1
        refused = self._scheduler.add(
            Request(
                id=f"bench/{self._made}",
                tokens=list(prompt),
                max_tokens=output,
                grant=output,
                arrived_s=time.monotonic(),
                payload=_GREEDY,
            ),
            time.monotonic(),
        )
        if refused is not None:
            raise RuntimeError(refused.error)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def _no_adapter(name: str) -> AdapterWeights:
    raise KeyError(name)


class OurSubject:
    """The engine under the worker's protocol; the mode names the weights' form, which is fixed at loading."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._engine = OurEngine.load(
            folder,
            device=torch.device(settings["device"]),
            kv_tokens=settings["kv_tokens"],
            max_batch=settings["max_batch"],
            step_tokens=settings["step_tokens"],
        )

    def run(self, prompts: list[list[int]], output: int, *, threads: int, mode: str) -> Run:
        del mode
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return self._engine.run(prompts, output)

    def facts(self) -> dict[str, Any]:
        return {"kv_bytes": self._engine.kv_bytes}

    def threads(self, most: int) -> int:
        """What start-up would choose."""
        seeds = count(1_000_000)
        load = Workload("threads", 4, 0, 8, 4)

        def step() -> None:
            self._engine.run(load.prompts(vocab_size=self._engine.vocab_size, seed=next(seeds)), load.output)

        return threads_choose(step, thread_candidates(most))
