"""What the engine makes of the prompts: all of them in one batch, read in chunks, over paged KV."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kindling_engine.core.intake import request_make
from kindling_engine.core.loops import loop_make
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import Parts, parts_build
from kindling_engine.models.errors import ModelError
from kindling_engine.protocol.ipc import Submit
from kindling_engine.protocol.sampling import Sampling
from kindling_engine.runner.runner import ModelRunner, RunnerPayload
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request

# Small, so that a prompt of a few hundred tokens is read in chunks beside the others' decodes.
_STEP_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Answered:
    """A prompt and our greedy answer to it."""

    prompt: list[int]
    answer: list[int]


class Engine:
    """The checkpoint in the engine's own parts. Raises ModelError when it cannot be served."""

    def __init__(self, folder: Path, *, device: str, threads: int) -> None:
        options = CoreOptions(
            socket=Path(),
            model=folder,
            model_ref="verify",
            blobs=Path(),
            device=device,
            threads=threads,
            kv_tokens=16_384,
            max_batch=16,
            step_tokens=_STEP_TOKENS,
        )
        self.parts: Parts = parts_build(options, wake=lambda: None)
        if self.parts.config.task != "generate" or not isinstance(self.parts.runner, ModelRunner):
            raise ModelError(
                "not_a_generation_model", "verify compares models that generate text; this one embeds."
            )
        self._runner = self.parts.runner

    @property
    def context_length(self) -> int:
        return self.parts.scheduler.max_length

    def greedy(self, prompts: list[list[int]], *, num_tokens: int) -> list[Answered]:
        """Greedy answers, made beside each other."""
        made: dict[str, list[int]] = {f"greedy/{index}": [] for index in range(len(prompts))}
        faults: list[str] = []

        def take(outcome: Outcome, _draw: Draw | None) -> None:
            if outcome.token is not None:
                made[outcome.request.id].append(outcome.token)
            if outcome.finish == "error":
                faults.append(outcome.error)

        loop = loop_make(self.parts.scheduler, self._runner, emit=take)
        for name, prompt in zip(made, prompts, strict=True):
            submit = Submit(
                id=name,
                prompt_ids=prompt,
                max_tokens=num_tokens,
                grant=num_tokens,
                salt="greedy",
                sampling=Sampling(temperature=0.0, ignore_eos=True),
            )
            request = request_make(submit, self.parts.config, time.monotonic())
            self.parts.scheduler.add(request, time.monotonic())
        while self.parts.scheduler.has_work:
            loop.step(time.monotonic())
        if faults:
            raise ModelError("unsupported_model", f"The engine could not answer a prompt: {faults[0]}")
        return [Answered(prompt, made[name]) for name, prompt in zip(made, prompts, strict=True)]

    def logits(self, answered: list[Answered]) -> list[Tensor]:
        """Teacher-forced logits ``[prompt + answer, vocab]``, fp32, computed anew in chunks."""
        scheduler = self.parts.scheduler
        seen: dict[str, list[Tensor]] = {f"logits/{index}": [] for index in range(len(answered))}
        for name, one in zip(seen, answered, strict=True):
            tokens = one.prompt + one.answer
            payload = RunnerPayload(SamplingParams(temperature=0.0))
            request = Request(name, tokens, max_tokens=1, grant=1, salt="logits", payload=payload)
            scheduler.add(request, time.monotonic())
        while scheduler.has_work:
            plan = scheduler.plan(time.monotonic())
            if plan is None:
                raise RuntimeError("requests are left, but nothing can run")
            logits = self._runner.logits_all(plan)
            for row, part in zip(
                plan.rows, logits.split_with_sizes([row.count for row in plan.rows]), strict=True
            ):
                seen[row.request.id].append(part.float().cpu())
            scheduler.commit(plan, [0 for row in plan.rows if row.samples], time.monotonic())
        return [torch.cat(parts) for parts in seen.values()]
