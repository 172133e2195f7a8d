"""How long the parts of a request took."""

from typing import Any

from kindling_engine.server.generation import Generation
from kindling_engine.server.usage import now_ms


def perf_block(generation: Generation) -> dict[str, Any]:
    """Milliseconds of waiting, of reading the prompt and of writing, counted on this host, with the tokens of each.

    Of several choices, waiting and reading are those of the one that began first.
    """
    firsts = [one for one in generation.choices if one.first_token_ms is not None]
    first = min(firsts, key=lambda one: one.first_token_ms or 0, default=None)
    ended_ms = now_ms()
    first_ms = ended_ms if first is None or first.first_token_ms is None else first.first_token_ms
    to_first_ms = max(0, first_ms - generation.started_ms)
    queue_ms = min(round(first.queue_ms, 1) if first else 0.0, float(to_first_ms))
    return {
        "queue_ms": queue_ms,
        "prefill_ms": round(to_first_ms - queue_ms, 1),
        "time_to_first_token_ms": to_first_ms,
        "decode_ms": max(0, ended_ms - first_ms),
        "total_ms": max(0, ended_ms - generation.started_ms),
        "prompt_tokens": generation.prompt_tokens,
        "cached_tokens": generation.cached_tokens,
        "completion_tokens": generation.completion_tokens,
    }
