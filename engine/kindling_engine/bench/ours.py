"""Our own engine as a bench runs it: model, scheduler and runner in one process, without HTTP."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kindling_engine.bench.kept import kept_bytes
from kindling_engine.bench.run import Run, outputs_of
from kindling_engine.bench.workloads import Workload
from kindling_engine.core.kv_cache import kv_page_dtype, kv_scales_find
from kindling_engine.core.loops import loop_make, runner_make
from kindling_engine.kvcache.manager import PAGE_SIZE, KvManager
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.slabs import DeviceSlabs
from kindling_engine.models.base import Model
from kindling_engine.models.decoder import Decoder
from kindling_engine.models.registry import model_load
from kindling_engine.models.weight_forms import weight_form
from kindling_engine.protocol.kv_dtypes import AUTO, FP8
from kindling_engine.protocol.weight_forms import CHECKPOINT
from kindling_engine.runner.runner import RunnerPayload
from kindling_engine.runner.threads import thread_candidates, threads_choose
from kindling_engine.runner.tuning import Tuning
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request
from kindling_engine.scheduler.scheduler import Scheduler

BATCH_INVARIANT = "batch-invariant"
KV_FP8 = "kv_fp8"

# A bench loads several shapes within minutes; what is not chosen in time is chosen in the next run.
_TUNE_S = 20.0
_GREEDY = RunnerPayload(SamplingParams(temperature=0.0))


class OurEngine:
    """A model with its cache and loop."""

    def __init__(
        self,
        model: Model,
        *,
        kv_tokens: int,
        max_batch: int,
        step_tokens: int,
        batch_invariant: bool = False,
        slabs: DeviceSlabs | None = None,
        adapters: Mapping[str, AdapterWeights] | None = None,
        kv_dtype: str = AUTO,
    ) -> None:
        """``batch_invariant`` is as the model was loaded; ``adapters`` lie in ``slabs``."""
        config = model.config
        num_blocks = -(-kv_tokens // PAGE_SIZE) + 1
        page_dtype = kv_page_dtype(kv_dtype, model.dtype)
        storage = KvStorage(
            num_layers=config.num_layers_kv,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            num_blocks=num_blocks,
            dtype=page_dtype,
            device=model.device,
            scales=kv_scales_find(model) if kv_dtype == FP8 and isinstance(model, Decoder) else None,
        )
        self.kv_bytes = num_blocks * KvStorage.block_bytes(
            num_layers=config.num_layers_kv,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=page_dtype,
        )
        # The runner attaches the pages to the model.
        self.weights_bytes = kept_bytes(model)
        self.vocab_size = config.vocab_size
        self.dtype = model.dtype
        self._device = model.device
        self._scheduler = Scheduler(
            kv=KvManager(num_blocks=num_blocks, revision=config.revision, kv_dtype=str(page_dtype)),
            context_length=config.context_length,
            max_batch=max_batch,
            step_tokens=step_tokens,
        )
        self._runner = runner_make(
            model,
            storage,
            max_batch=max_batch,
            max_length=self._scheduler.max_length,
            adapter_lookup=(adapters or {}).__getitem__,
            batch_invariant=batch_invariant,
            slabs=slabs,
            tuning=Tuning(limit_s=_TUNE_S),
        )
        self._loop = loop_make(self._scheduler, self._runner, emit=self._take)
        self._outcomes: list[Outcome] = []
        self._made = 0

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: torch.device,
        kv_tokens: int,
        max_batch: int,
        step_tokens: int,
        mode: str = "",
    ) -> "OurEngine":
        """``mode``: as of ``OurSubject``."""
        weights = CHECKPOINT if mode in {"", BATCH_INVARIANT, KV_FP8} else mode
        batch_invariant = mode == BATCH_INVARIANT
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        model = model_load(
            folder,
            device=device,
            dtype=dtype,
            form=weight_form(weights, device),
            batch_invariant=batch_invariant,
        )
        return cls(
            model,
            kv_tokens=kv_tokens,
            max_batch=max_batch,
            step_tokens=step_tokens,
            batch_invariant=batch_invariant,
            kv_dtype=FP8 if mode == KV_FP8 else AUTO,
        )

    def run(self, prompts: list[list[int]], output: int | list[int], adapters: Sequence[str] = ()) -> Run:
        """Generate exactly ``output`` tokens for each prompt, greedily, all submitted at once; ``adapters`` by prompt,
        none for the base alone.
        """
        outputs = outputs_of(prompts, output)
        self._synchronize()
        began, cpu_began = time.perf_counter(), time.process_time()
        for prompt, length, adapter in zip(prompts, outputs, adapters or [""] * len(prompts), strict=True):
            self._submit(prompt, length, adapter)
        first_s: dict[str, float] = {}
        tokens, decode_tokens, all_first_s = 0, 0, 0.0
        while self._scheduler.has_work:
            if self._loop.step(time.monotonic()) is None:
                raise RuntimeError("the load does not fit into the configured cache")
            outcomes, self._outcomes = self._outcomes, []
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
        if tokens != sum(outputs):
            raise RuntimeError(f"{tokens} tokens came instead of {sum(outputs)}")
        return Run(
            wall_s,
            tokens,
            cpu_s=time.process_time() - cpu_began,
            first_s=list(first_s.values()),
            decode_s=wall_s - all_first_s,
            decode_tokens=decode_tokens,
        )

    def tokens(self, prompts: list[list[int]], output: int) -> list[list[int]]:
        """The tokens that ``run`` makes."""
        requests = [self._submit(prompt, output) for prompt in prompts]
        while self._scheduler.has_work:
            if self._loop.step(time.monotonic()) is None:
                raise RuntimeError("the prompts do not fit into the configured cache")
        self._outcomes = []
        return [request.tokens[len(prompt) :] for request, prompt in zip(requests, prompts, strict=True)]

    def logits(self, prompts: Sequence[list[int]]) -> Iterator[Tensor]:
        """Logits ``[n, vocab]`` of every token of the prompts, a step at a time."""
        for prompt in prompts:
            self._submit(prompt, 1)
        while self._scheduler.has_work:
            plan = self._scheduler.plan(time.monotonic())
            if plan is None:
                raise RuntimeError("the prompts do not fit into the configured cache")
            yield self._runner.logits_all(plan)
            self._scheduler.commit(plan, [0 for row in plan.rows if row.samples], time.monotonic())

    def _submit(self, prompt: list[int], output: int, adapter: str = "") -> Request:
        self._made += 1
        request = Request(
            id=f"bench/{self._made}",
            tokens=list(prompt),
            max_tokens=output,
            grant=output,
            arrived_s=time.monotonic(),
            adapter=adapter,
            payload=_GREEDY,
        )
        refused = self._scheduler.add(request, time.monotonic())
        if refused is not None:
            raise RuntimeError(refused.error)
        return request

    def _take(self, outcome: Outcome, draw: Draw | None) -> None:
        del draw
        self._outcomes.append(outcome)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class OurSubject:
    """The engine under the worker's protocol.

    The mode is empty for the checkpoint's weights, else the name of another form of them, BATCH_INVARIANT or KV_FP8. Of
    those one at a time is in memory, beside the ordinary one, so that the two can take turns in one process.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._engine = self._load("")
        self._arm: OurEngine | None = None
        self._arm_mode = ""

    def run(self, prompts: list[list[int]], output: int | list[int], *, threads: int, mode: str) -> Run:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return self._engine_of(mode).run(prompts, output)

    def facts(self, mode: str = "") -> dict[str, Any]:
        engine = self._engine_of(mode)
        return {"kv_bytes": engine.kv_bytes, "weights_bytes": engine.weights_bytes}

    def threads(self, most: int) -> int:
        """What start-up would choose."""
        seeds = count(1_000_000)
        load = Workload("threads", 4, 0, 8, 4)

        def step() -> None:
            self._engine.run(load.prompts(vocab_size=self._engine.vocab_size, seed=next(seeds)), load.output)

        return threads_choose(step, thread_candidates(most))

    def _engine_of(self, mode: str) -> OurEngine:
        if not mode:
            return self._engine
        if self._arm is None or mode != self._arm_mode:
            self._arm = None  # before the next one takes its place
            self._arm, self._arm_mode = self._load(mode), mode
        return self._arm

    def _load(self, mode: str) -> OurEngine:
        return OurEngine.load(
            self._folder,
            device=torch.device(self._settings["device"]),
            kv_tokens=self._settings["kv_tokens"],
            max_batch=self._settings["max_batch"],
            step_tokens=self._settings["step_tokens"],
            mode=mode,
        )
