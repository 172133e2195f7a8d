"""Greedy answers from a model in memory, and the share of held-out prompts that it answers rightly."""

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer

from kindling_engine.starter.chat import END_OF_TEXT, IM_END, chat_render
from kindling_engine.starter.templates.extraction import extraction_dialogue
from kindling_engine.starter.templates.sums import sum_dialogue
from kindling_engine.starter.templates.support import HELD_OUT
from kindling_engine.starter.templates.toolcalls import toolcall_dialogue


def answer_generate(
    model: Any,
    tokenizer: Tokenizer,
    messages: list[dict[str, Any]],
    *,
    tools: list[dict[str, Any]] | None = None,
    max_tokens: int = 160,
) -> str:
    """Return the model's greedy answer to `messages`, without its stop token."""
    prompt = chat_render(messages, tools=tools, add_generation_prompt=True)
    return answers_generate(model, tokenizer, [prompt], max_tokens=max_tokens)[0]


@torch.inference_mode()
def answers_generate(
    model: Any, tokenizer: Tokenizer, prompts: Sequence[str], *, max_tokens: int
) -> list[str]:
    """Return the greedy answers to rendered prompts, all in one batch padded on the left."""
    rows = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
    stops = [tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)]
    longest = max(map(len, rows))
    ids = torch.tensor([[stops[1]] * (longest - len(row)) + row for row in rows])
    there = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    made = model.generate(
        input_ids=ids,
        attention_mask=there,
        max_new_tokens=max_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        eos_token_id=stops,
        pad_token_id=stops[1],
    )
    return [tokenizer.decode(row, skip_special_tokens=True) for row in made[:, longest:].tolist()]


def intent_accuracy(
    model: Any, tokenizer: Tokenizer, messages: tuple[tuple[str, str, str], ...] = HELD_OUT
) -> dict[str, float]:
    """Return the shares of `messages` answered with valid JSON, the right intent, and both fields right."""
    model.eval()
    prompts = [_asked([{"role": "user", "content": text}]) for text, _, _ in messages]
    answers = answers_generate(model, tokenizer, prompts, max_tokens=32)
    found = [_json_object(answer) for answer in answers]
    wanted = [{"intent": intent, "urgency": urgency} for _, intent, urgency in messages]
    return {
        "valid_json": _share(one is not None for one in found),
        "intent_right": _share(
            one is not None and one.get("intent") == right["intent"]
            for one, right in zip(found, wanted, strict=True)
        ),
        "both_right": _share(one == right for one, right in zip(found, wanted, strict=True)),
    }


def base_accuracy(model: Any, tokenizer: Tokenizer, *, count: int = 60, seed: int = 4242) -> dict[str, float]:
    """Return the shares of newly made extraction, tool and sum prompts that the base answers rightly."""
    model.eval()
    rng = random.Random(seed)

    def answers(prompts: list[str], max_tokens: int) -> list[str]:
        return answers_generate(model, tokenizer, prompts, max_tokens=max_tokens)

    extractions = [extraction_dialogue(rng).messages for _ in range(count)]
    found = [_json_object(one) for one in answers([_asked([user]) for user, _ in extractions], 96)]
    calls = [toolcall_dialogue(rng) for _ in range(count)]
    before = [next(i for i, one in enumerate(call.messages) if one["role"] == "assistant") for call in calls]
    called = answers(
        [_asked(call.messages[:until], call.tools) for call, until in zip(calls, before, strict=True)], 64
    )
    sums = [sum_dialogue(rng).messages for _ in range(count)]
    summed = answers([_asked([user]) for user, _ in sums], 64)
    return {
        "extraction_valid_json": _share(one is not None for one in found),
        "extraction_exact": _share(
            one == json.loads(wanted["content"]) for one, (_, wanted) in zip(found, extractions, strict=True)
        ),
        "tool_exact": _share(
            chat_render([{"role": "assistant", "content": answer}]) == chat_render([call.messages[until]])
            for answer, call, until in zip(called, calls, before, strict=True)
        ),
        "sum_exact": _share(
            answer == wanted["content"] for answer, (_, wanted) in zip(summed, sums, strict=True)
        ),
    }


def _asked(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    return chat_render(messages, tools=tools, add_generation_prompt=True)


def _share(hits: Iterable[bool]) -> float:
    counted = list(hits)
    return sum(counted) / len(counted)


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
