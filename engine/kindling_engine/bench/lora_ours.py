"""Our core with adapters as a bench runs it: messages in, steps, tokens out, without sockets and HTTP."""

import threading
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch

from kindling_engine.bench.run import Run, outputs_of
from kindling_engine.core.engine import EngineCore
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import parts_build
from kindling_engine.protocol.ipc import AdapterLoaded, LoadAdapter, Step, StepItem, Submit, ToCore, ToFront
from kindling_engine.protocol.sampling import Sampling
from kindling_engine.protocol.speculation_modes import OFF

_GREEDY = Sampling(temperature=0.0, ignore_eos=True)
_LOAD_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05


class LoraSubject:
    """The whole core under the worker's protocol."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._blobs = Path(settings["adapters"])
        options = CoreOptions(
            socket=self._blobs / "unused",
            model=folder,
            model_ref="bench/model",
            blobs=self._blobs,
            device=settings["device"],
            threads=settings["threads"],
            kv_tokens=settings["kv_tokens"],
            max_batch=settings["max_batch"],
            step_tokens=settings["step_tokens"],
            lora_mib=settings["lora_mib"],
            lora_borrow=settings.get("lora_borrow", 0),
            # Random weights repeat themselves, and guesses would make what is no speed of adapters.
            speculation=OFF,
        )
        self._sent: list[ToFront] = []
        self._woken = threading.Event()
        self._parts = parts_build(options, wake=self._woken.set)
        self._core = EngineCore(self._parts, blobs=self._blobs, send=self._sent.append)
        self._core.ready()
        # As the engine bench runs: prompts of a round end together, and so do the answers.
        self._parts.scheduler.step_tokens = settings["step_tokens"]
        self._numbers = count(1)

    def facts(self) -> dict[str, Any]:
        return {"adapters_held": 0}

    def run(
        self,
        prompts: list[list[int]],
        output: int | list[int],
        *,
        threads: int,
        mode: str = "",
        adapters: Sequence[str] = (),
        at_once: int = 0,
    ) -> Run:
        """Run every prompt on its adapter, "" for the base; at most ``at_once`` of them at a time, 0 for all."""
        del mode
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        waiting = [
            Submit(
                id=f"bench/{next(self._numbers)}",
                prompt_ids=prompt,
                adapter=adapter,
                max_tokens=length,
                grant=length,
                sampling=_GREEDY,
            )
            for prompt, length, adapter in zip(
                prompts, outputs_of(prompts, output), adapters or [""] * len(prompts), strict=True
            )
        ]
        waiting.reverse()
        began, cpu_began = time.perf_counter(), time.process_time()
        submitted_s: dict[str, float] = {}
        first_s: dict[str, float] = {}
        ended = tokens = decode_tokens = 0
        all_first_s = 0.0
        while ended < len(prompts):
            fresh: list[ToCore] = []
            while waiting and (not at_once or len(submitted_s) - ended < at_once):
                message = waiting.pop()
                submitted_s[message.id] = time.perf_counter() - began
                fresh.append(message)
            items = self._turn(fresh)
            now_s = time.perf_counter() - began
            for item in items:
                if item.finish not in {"", "length"}:
                    raise RuntimeError(f"a request ended with {item.finish}: {item.error}")
                tokens += len(item.token_ids)
                ended += bool(item.finish)
                first_s.setdefault(item.id, now_s - submitted_s[item.id])
            if all_first_s:
                decode_tokens += len(items)
            elif len(first_s) == len(prompts):
                all_first_s = now_s
        wall_s = time.perf_counter() - began
        return Run(
            wall_s,
            tokens,
            cpu_s=time.process_time() - cpu_began,
            first_s=list(first_s.values()),
            decode_s=wall_s - all_first_s,
            decode_tokens=decode_tokens,
        )

    def adapter_load(self, adapter: str) -> float:
        """Seconds until an adapter is in memory."""
        began = time.perf_counter()
        self._sent.clear()
        self._core.turn(
            [LoadAdapter(id=f"load/{next(self._numbers)}", adapter=adapter, path="")], time.monotonic()
        )
        while time.perf_counter() - began < _LOAD_WITHIN_S:
            for message in self._sent:
                if isinstance(message, AdapterLoaded):
                    if not message.ok:
                        raise RuntimeError(message.reason)
                    return time.perf_counter() - began
            self._await_loader()
            self._core.turn([], time.monotonic())
        raise RuntimeError("the adapter did not load in time")

    def adapters_drop(self) -> int:
        """Take every adapter out of memory; how many there were."""
        return self._parts.adapters.clear()

    def _turn(self, messages: list[ToCore]) -> list[StepItem]:
        self._sent.clear()
        self._core.turn(messages, time.monotonic())
        items = [item for message in self._sent if isinstance(message, Step) for item in message.items]
        if not items and not self._parts.scheduler.has_work:
            self._await_loader()
        return items

    def _await_loader(self) -> None:
        """Asleep, as the core would be: the loader has the interpreter to itself."""
        self._woken.wait(_LOOK_EVERY_S)
        self._woken.clear()
