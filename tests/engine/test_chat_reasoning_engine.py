"""A budget of reasoning kept to the token by the whole engine, with a model that was told to reason without end."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from tokenizers import Tokenizer

from kindling_engine.starter import SPARK_PATH
from kindling_engine_process import EngineProcess

# The starter has never seen these marks, so it closes nothing by itself.
TEMPLATE = """
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}
{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is not defined or enable_thinking %}{{- '<think>\\n' }}
{%- else %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    model = tmp_path_factory.mktemp("model") / "thinker"
    shutil.copytree(SPARK_PATH, model)
    (model / "chat_template.jinja").write_text(TEMPLATE)
    with EngineProcess(tmp_path_factory.mktemp("engine"), model=model) as made:
        yield made


def answer(engine: EngineProcess, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    reply = engine.chat(messages=[{"role": "user", "content": "Tell me a story."}], ignore_eos=True, **fields)
    assert reply.status_code == 200, reply.text
    body = reply.json()
    return body["choices"][0]["message"], body["usage"]


@pytest.mark.parametrize("budget", [1, 2, 9, 40])
def test_reasoning_ends_at_its_budget(engine: EngineProcess, budget: int):
    message, usage = answer(engine, reasoning_effort=budget, max_tokens=64, return_token_ids=True)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == budget
    tokenizer = Tokenizer.from_file(str(SPARK_PATH / "tokenizer.json"))
    assert 0 < len(tokenizer.encode(message["reasoning_content"]).ids) <= budget
    assert engine.records()[-1].reasoning_tokens == budget
    assert message["content"]
    assert "think>" not in message["reasoning_content"] + message["content"]


def test_without_a_budget_it_goes_on(engine: EngineProcess):
    message, usage = answer(engine, max_tokens=32)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 32
    assert message["content"] == ""


def test_none_switches_it_off(engine: EngineProcess):
    message, usage = answer(engine, reasoning_effort="none", max_tokens=16)
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0
    assert "reasoning_content" not in message
    assert message["content"]


def test_a_format_binds_only_what_comes_behind_the_reasoning(engine: EngineProcess):
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    reply = engine.chat(reasoning_effort=7, response_format=form, max_tokens=80)
    message = reply.json()["choices"][0]["message"]
    assert set(json.loads(message["content"])) == {"ok"}
    assert message["reasoning_content"]
    assert reply.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] <= 7
