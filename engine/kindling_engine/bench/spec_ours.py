"""Our engine as the bench of guesses runs it: the same answers with guesses and without, in one process."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from kindling_engine.core.loops import loop_make
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import parts_build
from kindling_engine.runner.runner import RunnerPayload
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.scheduler.request import Request
from kindling_engine.speculation.speculator import RequestDrafting


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: a prompt, how its tokens are drawn, and what its answer is predicted to be."""

    prompt: list[int]
    params: SamplingParams
    prediction: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """``tokens`` by request; ``tok_s`` of the time behind the last request's first token."""

    tokens: list[list[int]]
    tok_s: float
    drafted: int
    guessed: int


class Guesser:
    """A model with its loop."""

    def __init__(self, folder: Path, *, kv_tokens: int, max_batch: int) -> None:
        options = CoreOptions(
            socket=folder / "unused",
            model=folder,
            model_ref="bench/model",
            blobs=folder,
            device="cpu",
            kv_tokens=kv_tokens,
            max_batch=max_batch,
        )
        self._parts = parts_build(options, wake=lambda: None)
        self._loop = loop_make(self._parts.scheduler, self._parts.runner, emit=lambda outcome, draw: None)
        self._numbers = count(1)
        self.vocab_size = self._parts.config.vocab_size

    def answer(self, asks: Sequence[Ask], length: int, *, guesses: bool) -> Answers:
        """``length`` tokens for each, all at once."""
        requests = [
            Request(
                id=f"bench/{next(self._numbers)}",
                tokens=list(ask.prompt),
                max_tokens=length,
                grant=length,
                arrived_s=time.monotonic(),
                payload=RunnerPayload(ask.params),
                drafting=RequestDrafting(ask.prediction) if guesses else None,
            )
            for ask in asks
        ]
        for request in requests:
            refused = self._parts.scheduler.add(request, time.monotonic())
            if refused is not None:
                raise RuntimeError(refused.error)
        began_s, before = 0.0, 0
        while self._parts.scheduler.has_work:
            if self._loop.step(time.monotonic()) is None:
                raise RuntimeError("the load does not fit into the configured cache")
            if not began_s and all(request.made for request in requests):
                began_s, before = time.perf_counter(), sum(request.made for request in requests)
        took_s = time.perf_counter() - began_s
        made = [request.tokens[request.prompt_len :] for request in requests]
        return Answers(
            made,
            (sum(map(len, made)) - before) / took_s,
            sum(request.drafted for request in requests),
            sum(request.guessed for request in requests),
        )
