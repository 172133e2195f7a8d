"""The harmony format kept by the whole engine, with a model that has never seen its marks."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_chat_templates import HARMONY, HARMONY_MARKS, TOOLS
from kindling_engine.starter import SPARK_PATH
from kindling_engine_process import EngineProcess
from kindling_reasoner import family_text

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    model = tmp_path_factory.mktemp("model") / "speaker"
    shutil.copytree(SPARK_PATH, model)
    _give_marks(model)
    with EngineProcess(tmp_path_factory.mktemp("engine"), model=model) as made:
        yield made


def _give_marks(model: Path) -> None:
    """Seven tokens more than the starter has."""
    text = family_text(HARMONY, marks=HARMONY_MARKS, special=True)
    text.tokenizer.save(str(model / "tokenizer.json"))
    (model / "chat_template.jinja").write_text(HARMONY)
    weights = load_file(model / "model.safetensors")
    rows = weights[EMBEDDING]
    noise = torch.randn(len(HARMONY_MARKS), rows.shape[1], generator=torch.Generator().manual_seed(0))
    weights[EMBEDDING] = torch.cat([rows, noise.to(rows.dtype) * rows.float().std()])
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": len(weights[EMBEDDING])}))
    ends = [text.tokenizer.token_to_id(mark) for mark in ("<|return|>", "<|call|>")]
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))


def answer(engine: EngineProcess, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    reply = engine.chat(messages=[{"role": "user", "content": "Tell me a story."}], **fields)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    return body["choices"][0], body["usage"]["completion_tokens_details"]


@pytest.mark.parametrize("budget", [1, 7, 40])
def test_thoughts_end_at_their_budget(engine: EngineProcess, budget: int):
    # The model is led into its thoughts, and out of them by nothing but the budget.
    text = family_text(HARMONY, marks=HARMONY_MARKS, special=True)
    bias = {str(text.tokenizer.token_to_id("<|end|>")): -100, str(_first(text, "final")): -100}
    choice, usage = answer(engine, reasoning_effort=budget, max_tokens=64, ignore_eos=True, logit_bias=bias)
    assert usage["reasoning_tokens"] == budget
    assert engine.records()[-1].reasoning_tokens == budget
    assert choice["message"]["reasoning_content"]
    assert choice["message"]["content"]


def _first(text: Any, word: str) -> int:
    return int(text.tokenizer.encode(word, add_special_tokens=False).ids[0])


def test_none_leaves_no_thought(engine: EngineProcess):
    choice, usage = answer(engine, reasoning_effort="none", max_tokens=24, ignore_eos=True)
    assert usage["reasoning_tokens"] == 0
    assert "reasoning_content" not in choice["message"]
    assert choice["message"]["content"]


def test_a_format_binds_what_is_said_at_last(engine: EngineProcess):
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    choice, usage = answer(engine, reasoning_effort=7, response_format=form, max_tokens=120)
    assert set(json.loads(choice["message"]["content"])) == {"ok"}
    assert usage["reasoning_tokens"] <= 7
    choice, _ = answer(
        engine, reasoning_effort=7, guided_regex="(yes|no)/maybe", tools=TOOLS, tool_choice="none"
    )
    assert choice["message"]["content"] in ("yes/maybe", "no/maybe")
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_time"}}])
def test_a_demanded_call_is_made(engine: EngineProcess, choice: Any):
    told, usage = answer(engine, reasoning_effort=5, tools=TOOLS, tool_choice=choice, max_tokens=400)
    assert told["finish_reason"] == "tool_calls"
    (call,) = told["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    assert call["function"]["name"] in ("get_weather", "get_time")
    assert (call["function"]["name"] == "get_weather") <= isinstance(arguments.get("city"), str)
    assert choice == "required" or call["function"]["name"] == "get_time"
    assert told["message"]["content"] is None
    assert usage["reasoning_tokens"] <= 5


@pytest.mark.parametrize(("mark", "ends"), [("<|return|>", True), ("<|call|>", True), ("<|end|>", False)])
def test_an_answer_ends_with_its_marks_and_no_other(engine: EngineProcess, mark: str, ends: bool):
    text = family_text(HARMONY, marks=HARMONY_MARKS, special=True)
    bias = {str(text.tokenizer.token_to_id(mark)): 100}
    choice, _ = answer(engine, max_tokens=9, logit_bias=bias)
    assert choice["finish_reason"] == ("stop" if ends else "length")
