"""What both forms of a message say of its end: why, and what was used."""

from typing import Any

STANDARD, BATCH = "standard", "batch"
STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def stop_of(choice: dict[str, Any]) -> tuple[str, str | None]:
    """Anthropic's stop_reason, and the stop sequence where one ended the answer."""
    sequence = choice.get("stop_reason")
    if isinstance(sequence, str):
        return "stop_sequence", sequence
    return STOP_REASONS.get(choice.get("finish_reason") or "stop", "end_turn"), None


def usage_block(usage: dict[str, Any], tier: str = STANDARD) -> dict[str, Any]:
    """Anthropic counts cached input apart from the rest; nothing is charged for filling the cache."""
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return {
        "input_tokens": usage.get("prompt_tokens", 0) - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.get("completion_tokens", 0),
        "service_tier": tier,
    }
