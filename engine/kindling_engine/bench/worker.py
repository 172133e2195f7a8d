"""One engine in a process of its own, told what to run over a pipe.

``python -m kindling_engine.bench.worker <kind> <settings as JSON>`` reads one JSON object a line and answers each
with one: ``{"op": "run", "prompts": …, "output": n, "threads": n, …}`` gives a run, ``{"op": "memory"}`` the bytes
since the imports, ``tokens`` what a peer generates, ``deficit`` what transformers thinks of that. A failure is
answered as ``{"error": "…"}``. It ends with its input. A peer's venv may have no torch, so nothing here imports it
before it is needed.
"""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, Protocol

from kindling_engine.bench.memory import peak_bytes, read_gbps, resident_bytes
from kindling_engine.bench.run import Run

_OF_ADAPTERS = ("adapters", "at_once")


class Subject(Protocol):
    """An engine with a model loaded; ``threads`` is for ours, ``tokens`` for peers, ``deficit`` for their judge.

    Adapters are for the bench that has some.
    """

    def run(
        self,
        prompts: list[list[int]],
        output: int | list[int],
        *,
        threads: int,
        mode: str,
        **of_adapters: Any,
    ) -> Run: ...
    def adapter_load(self, adapter: str) -> float: ...
    def adapters_drop(self) -> int: ...
    def facts(self, mode: str = "") -> dict[str, Any]: ...
    def threads(self, most: int) -> int: ...
    def tokens(
        self, prompts: list[list[int]], output: int, *, threads: int, mode: str
    ) -> list[list[int]]: ...
    def deficit(self, prompts: list[list[int]], made: list[list[int]]) -> float: ...


def main() -> int:
    kind, settings = sys.argv[1], json.loads(sys.argv[2])
    # Whatever a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        make, imported_bytes = _prepare(kind)
        subject = make(Path(settings["folder"]), settings)
    except Exception as error:
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}) + "\n")
        return 1
    answers.write(json.dumps({"ready": True, **subject.facts()}) + "\n")
    for line in sys.stdin:
        try:
            answer = _answer(subject, json.loads(line), imported_bytes)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(answer) + "\n")
    return 0


def _prepare(kind: str) -> tuple[Any, int]:
    """Import what an engine needs, and say how much memory the imports took."""
    if kind == "ours":
        from kindling_engine.bench.ours import OurSubject

        return OurSubject, resident_bytes()
    if kind == "lora":
        from kindling_engine.bench.lora_ours import LoraSubject

        return LoraSubject, resident_bytes()
    # Peers warn of what does not matter to a bench, once a run; only a process of theirs is quieted.
    logging.disable(logging.WARNING)
    if kind == "peft":
        from kindling_engine.bench.peer_peft import peft_prepare

        return peft_prepare(), resident_bytes()
    from kindling_engine.bench.peers import PEERS

    return PEERS[kind].prepare(), resident_bytes()


def _answer(subject: Subject, message: dict[str, Any], imported_bytes: int) -> dict[str, Any]:
    match message["op"]:
        case "run":
            run = subject.run(
                message["prompts"],
                message["output"],
                threads=message["threads"],
                mode=message.get("mode", ""),
                **{name: message[name] for name in _OF_ADAPTERS if name in message},
            )
            return run.as_dict()
        case "adapter_load":
            return {"seconds": subject.adapter_load(message["adapter"])}
        case "adapters_drop":
            return {"dropped": subject.adapters_drop()}
        case "tokens":
            made = subject.tokens(
                message["prompts"], message["output"], threads=message["threads"], mode=message["mode"]
            )
            return {"tokens": made}
        case "deficit":
            return {"deficit": subject.deficit(message["prompts"], message["made"])}
        case "facts":
            return subject.facts(message["mode"])
        case "threads":
            return {"threads": subject.threads(message["most"])}
        case "memory":
            return {"peak_bytes": peak_bytes() - imported_bytes}
        case "bandwidth":
            import torch

            return {"gbps": read_gbps(torch.device(message["device"]), threads=message["threads"])}
    raise ValueError(f"unknown operation {message['op']}")


if __name__ == "__main__":
    sys.exit(main())
