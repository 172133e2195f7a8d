"""An engine core without its process: messages in, steps on demand, answers collected."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kindling_engine.core.engine import EngineCore
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import parts_build
from kindling_engine.protocol.ipc import Step, StepItem, Submit, ToCore, ToFront
from kindling_engine.protocol.sampling import Sampling
from kindling_engine.protocol.speculation_modes import OFF

GREEDY = Sampling(temperature=0.0, ignore_eos=True)


@dataclass
class Rig:
    """The core on one thread with a clock of its own, real weights and real adapter loading."""

    core: EngineCore
    sent: list[ToFront]
    blobs: Path
    clock_s: float = field(default_factory=time.monotonic)

    def submit(self, request_id: str, prompt: list[int], *, max_tokens: int = 8, **fields) -> None:
        fields.setdefault("grant", max_tokens)
        fields.setdefault("sampling", GREEDY)
        self.turn(Submit(id=request_id, prompt_ids=prompt, max_tokens=max_tokens, **fields))

    def turn(self, *messages: ToCore) -> None:
        self.clock_s += 0.001
        self.core.turn(list(messages), self.clock_s)

    def items(self) -> Iterator[StepItem]:
        for message in self.sent:
            if isinstance(message, Step):
                yield from message.items

    def tokens(self, request_id: str) -> list[int]:
        return [token for item in self.items() if item.id == request_id for token in item.token_ids]

    def end(self, request_id: str) -> StepItem | None:
        return next((item for item in self.items() if item.id == request_id and item.finish), None)

    def run_until(self, *request_ids: str, timeout_s: float = 60.0) -> None:
        self.wait(lambda: all(self.end(request_id) for request_id in request_ids), timeout_s)

    def wait(self, condition, timeout_s: float = 60.0) -> None:
        """Turn until the condition holds; real time passes only while an adapter is being loaded."""
        stop = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < stop, "the core did not get there"
            self.turn()
            if not self.core._scheduler.has_work:
                time.sleep(0.002)

    def answers(self, kind: type) -> list:
        return [message for message in self.sent if isinstance(message, kind)]


def rig_make(model: Path, blobs: Path, *, device: str = "cpu", **options) -> Rig:
    options.setdefault("threads", 1)
    options.setdefault("tune", "off")
    # Steps that do not depend on how fast the last ones were.
    options.setdefault("speculation", OFF)
    sent: list[ToFront] = []
    parts = parts_build(
        CoreOptions(
            socket=blobs / "unused",
            model=model,
            model_ref="kindling/tiny",
            blobs=blobs,
            device=device,
            **options,
        ),
        wake=lambda: None,
    )
    return Rig(EngineCore(parts, blobs=blobs, send=sent.append), sent, blobs)


def answers_of(rig: Rig, prompts: dict[str, list[int]]) -> dict[str, list[int]]:
    """Twelve tokens to each prompt, by name; all run together."""
    for name, tokens in prompts.items():
        rig.submit(name, tokens, max_tokens=12)
    rig.run_until(*prompts)
    return {name: rig.tokens(name) for name in prompts}


def calls_failing(place: Any, name: str, numbers: set[int]) -> list[None]:
    """Calls of an object's method with these numbers, from 1 on, raise at their end; gives an entry for each call."""
    whole: Callable[..., Any] = getattr(place, name)
    calls: list[None] = []

    def failing(*arguments: Any, **options: Any) -> Any:
        output = whole(*arguments, **options)
        calls.append(None)
        if len(calls) in numbers:
            raise RuntimeError("lost")
        return output

    setattr(place, name, failing)
    return calls
