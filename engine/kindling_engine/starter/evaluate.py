"""Greedy answers from a model in memory, and the share of held-out prompts that it answers rightly."""

import json
import random
from typing import Any

import torch
from tokenizers import Tokenizer

from kindling_engine.starter.chat import END_OF_TEXT, IM_END, chat_render
from kindling_engine.starter.templates.extraction import extraction_dialogue
from kindling_engine.starter.templates.sums import sum_dialogue
from kindling_engine.starter.templates.support import HELD_OUT
from kindling_engine.starter.templates.toolcalls import toolcall_dialogue


@torch.inference_mode()
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
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False).ids])
    stops = [tokenizer.token_to_id(IM_END), tokenizer.token_to_id(END_OF_TEXT)]
    made = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        eos_token_id=stops,
        pad_token_id=stops[1],
    )
    return tokenizer.decode(made[0, ids.shape[1] :].tolist(), skip_special_tokens=True)


def intent_accuracy(
    model: Any, tokenizer: Tokenizer, messages: tuple[tuple[str, str, str], ...] = HELD_OUT
) -> dict[str, float]:
    """Return the shares of `messages` answered with valid JSON, the right intent, and both fields right."""
    model.eval()
    valid = intents = both = 0
    for text, intent, urgency in messages:
        answer = answer_generate(model, tokenizer, [{"role": "user", "content": text}], max_tokens=32)
        found = _json_object(answer)
        valid += found is not None
        intents += found is not None and found.get("intent") == intent
        both += found == {"intent": intent, "urgency": urgency}
    count = len(messages)
    return {"valid_json": valid / count, "intent_right": intents / count, "both_right": both / count}


def base_accuracy(model: Any, tokenizer: Tokenizer, *, count: int = 60, seed: int = 4242) -> dict[str, float]:
    """Return the shares of newly made extraction, tool and sum prompts that the base answers rightly."""
    model.eval()
    rng = random.Random(seed)
    valid = exact = 0
    for _ in range(count):
        user, wanted = extraction_dialogue(rng).messages
        found = _json_object(answer_generate(model, tokenizer, [user], max_tokens=96))
        valid += found is not None
        exact += found == json.loads(wanted["content"])
    called = 0
    for _ in range(count):
        dialogue = toolcall_dialogue(rng)
        until = next(i for i, one in enumerate(dialogue.messages) if one["role"] == "assistant")
        wanted_text = chat_render([dialogue.messages[until]])
        answer = answer_generate(
            model, tokenizer, dialogue.messages[:until], tools=dialogue.tools, max_tokens=64
        )
        called += chat_render([{"role": "assistant", "content": answer}]) == wanted_text
    summed = 0
    for _ in range(count):
        user, wanted = sum_dialogue(rng).messages
        summed += answer_generate(model, tokenizer, [user], max_tokens=64) == wanted["content"]
    return {
        "extraction_valid_json": valid / count,
        "extraction_exact": exact / count,
        "tool_exact": called / count,
        "sum_exact": summed / count,
    }


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
