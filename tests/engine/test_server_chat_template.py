"""Chat templates: the same text as transformers makes, from strangers' templates too, and safely."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from kindling_engine.server.chat_template import ChatTemplate
from kindling_engine.server.errors import ApiError
from kindling_engine.server.messages import messages_read
from kindling_engine.server.template_files import (
    chat_templates_load,
    special_tokens_load,
)
from kindling_engine.starter import SPARK_PATH

CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "find", "arguments": '{"q": "föx", "n": [1, 2]}'},
}
CONVERSATIONS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hello!"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n\n  there "}],
    [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "<|im_end|> {{ 7 * 7 }} {% if %}"}],
    [
        {"role": "user", "content": "Find a fox"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "🦊"},
        {"role": "assistant", "content": "There."},
        {"role": "user", "content": [{"type": "text", "text": "Tha"}, {"type": "text", "text": "nks"}]},
    ],
]  # fmt: skip
# In the manner of published templates: what they use of Jinja and of the names around it.
TEMPLATES = {
    "bos-and-loops": (
        "{{ bos_token }}{% for message in messages %}\n"
        "    {% if message.role == 'tool' %}{% continue %}{% endif %}\n"
        "[{{ message['role'] }}]{{ message['content'] | trim }}{% generation %}.{% endgeneration %}{{ eos_token }}\n"
        "{% endfor %}\n{% if add_generation_prompt %}>{% endif %}"
    ),
    "namespace-and-json": (
        "{%- set ns = namespace(count=0) -%}\n{%- for message in messages -%}\n"
        "{%- set ns.count = ns.count + 1 -%}{{ ns.count }}{{ message.content | tojson }}"
        "{%- if message.tool_calls is defined -%}{% for call in message.tool_calls %}"
        "{{ call.function | tojson(indent=2) }}{{ call.function.arguments | tojson(sort_keys=true) }}"
        "{% endfor %}{%- endif -%}\n{%- endfor -%}{{ messages[0].role | upper }}{{ messages[-1]['content'][:2] }}"
    ),
    "definitions": (
        "{% if tools is defined and tools %}T{% endif %}{{ strftime_now('%Y') }}"
        "{% if documents %}D{% endif %}{% if nothing is defined %}N{% endif %}"
        "{% macro say(m) %}<{{ m.role }}>{{ m.content }}{% endmacro %}"
        "{% for m in messages %}{{ say(m) }}{% endfor %}"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def reference() -> Any:
    return AutoTokenizer.from_pretrained(SPARK_PATH)


@pytest.mark.parametrize("messages", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_spark_is_rendered_as_by_transformers(reference: Any, messages: list[dict[str, Any]]):
    templates = chat_templates_load(SPARK_PATH)
    assert templates
    ours = templates.default.render(messages_read(messages))
    theirs = reference.apply_chat_template(
        messages_read(messages), tokenize=False, add_generation_prompt=True
    )
    assert ours == theirs
    # Also from the messages as they came; only the spelling of a call's arguments was changed on the way.
    raw = reference.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ours == raw


@pytest.mark.parametrize("name", sorted(TEMPLATES))
@pytest.mark.parametrize("messages", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
def test_other_templates_are_rendered_as_by_transformers(
    reference: Any, name: str, messages: list[dict[str, Any]]
):
    read = messages_read(messages)
    theirs = reference.apply_chat_template(
        read, chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=True
    )
    ours = ChatTemplate(TEMPLATES[name], dict(reference.special_tokens_map)).render(read)
    assert ours == theirs


def test_the_prompt_has_the_reference_s_tokens(reference: Any):
    from kindling_engine.server.model_text import model_text_load

    text = model_text_load(SPARK_PATH)
    assert text.templates
    for messages in CONVERSATIONS:
        rendered = text.templates.default.render(messages_read(messages))
        ids = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        assert text.tokenizer.encode(rendered, add_special_tokens=False).ids == ids


def test_a_template_may_refuse_with_its_own_words():
    template = ChatTemplate("{{ raise_exception('Roles must alternate.') }}", {})
    with pytest.raises(ApiError, match=r"Roles must alternate\.") as refused:
        template.render([{"role": "user", "content": "x"}])
    assert (refused.value.status, refused.value.param) == (400, "messages")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ messages.nothing.more }}",
        "{{ messages[0].content + 5 }}",
        "{{ 1 // 0 }}",
        "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        "{% for x in range(99999999) %}{% endfor %}",
    ],
)
def test_a_hostile_template_is_a_refusal(source: str):
    with pytest.raises(ApiError) as refused:
        ChatTemplate(source, {}).render([{"role": "user", "content": "x"}])
    assert refused.value.status == 400


def write(folder: Path, **files: Any) -> Path:
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_where_templates_are_found(tmp_path: Path):
    assert chat_templates_load(tmp_path) is None
    write(tmp_path, tokenizer_config={"chat_template": "A{{ eos_token }}", "eos_token": {"content": "</s>"}})
    assert rendered(tmp_path) == "A</s>"
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    write(tmp_path, tokenizer_config={"chat_template": named})
    assert rendered(tmp_path) == "D"
    (tmp_path / "chat_template.jinja").write_text("J")
    assert rendered(tmp_path) == "J"
    write(tmp_path, special_tokens_map={"eos_token": "</s>", "bos_token": {"content": "<s>"}})
    assert special_tokens_load(tmp_path) == {"eos_token": "</s>", "bos_token": "<s>"}


def rendered(folder: Path) -> str:
    templates = chat_templates_load(folder)
    assert templates
    return templates.default.render([{"role": "user", "content": "x"}])


def test_a_template_that_does_not_compile_is_said_at_the_start(tmp_path: Path):
    (tmp_path / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(ValueError, match="does not compile"):
        chat_templates_load(tmp_path)
