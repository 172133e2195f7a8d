"""How long the parts of a request took."""

from typing import Any

from kindling_engine.protocol import headers as names
from kindling_engine.server.generation import Generation
from kindling_engine.server.usage import now_ms


def perf_block(generation: Generation) -> dict[str, Any]:
    """Milliseconds of waiting, of loading the adapter, of reading the prompt and of writing, with the tokens of each.

    Counted on this host. Of several choices, all but the writing are those of the one that began first. A request
    without an adapter has no ``adapter_hit``, and one of whose tokens none was guessed ahead no acceptance.
    """
    firsts = [one for one in generation.choices if one.first_token_ms is not None]
    first = min(firsts, key=lambda one: one.first_token_ms or 0, default=None)
    drafted = sum(one.drafted for one in generation.choices)
    ended_ms = now_ms()
    first_ms = ended_ms if first is None or first.first_token_ms is None else first.first_token_ms
    to_first_ms = max(0, first_ms - generation.started_ms)
    waited_ms = min(round(first.queue_ms, 1) if first else 0.0, float(to_first_ms))
    adapter_ms = first.adapter_ms if first else None
    load_ms = min(round(adapter_ms or 0.0, 1), waited_ms)
    return {
        "queue_ms": round(waited_ms - load_ms, 1),
        "adapter_load_ms": load_ms,
        "adapter_hit": None if adapter_ms is None else adapter_ms == 0,
        "prefill_ms": round(to_first_ms - waited_ms, 1),
        "time_to_first_token_ms": to_first_ms,
        "decode_ms": max(0, ended_ms - first_ms),
        "total_ms": max(0, ended_ms - generation.started_ms),
        "speculation_acceptance": round(sum(one.guessed for one in generation.choices) / drafted, 3)
        if drafted
        else None,
        "prompt_tokens": generation.prompt_tokens,
        "cached_tokens": generation.cached_tokens,
        "completion_tokens": generation.completion_tokens,
    }


def perf_headers(generation: Generation) -> dict[str, str]:
    """The same as headers, as far as it is known when the answer begins: ``server-timing`` as browsers read it."""
    perf = perf_block(generation)
    parts = [("queue", "queue_ms"), ("adapter", "adapter_load_ms"), ("prefill", "prefill_ms")]
    parts.append(("ttft", "time_to_first_token_ms"))
    if generation.ended:
        parts += [("decode", "decode_ms"), ("total", "total_ms")]
    found = {
        names.TIMING: ", ".join(f"{name};dur={perf[field]}" for name, field in parts),
        names.PROMPT_TOKENS: str(generation.prompt_tokens),
        names.CACHED_TOKENS: str(generation.cached_tokens),
    }
    if perf["adapter_hit"] is not None:
        found[names.ADAPTER_HIT] = "true" if perf["adapter_hit"] else "false"
    return found
