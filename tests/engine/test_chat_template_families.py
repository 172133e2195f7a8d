"""Templates in the forms of published families, with tools: the same text as transformers makes."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from kindling_chat_templates import CONVERSATIONS, FAMILIES, HARMONY, RAW_ARGUMENTS, TOOLS
from kindling_engine.server.chat_template import ChatTemplate
from kindling_engine.server.errors import ApiError
from kindling_engine.server.messages import messages_read
from kindling_engine.server.template_files import chat_templates_load
from kindling_engine.starter import SPARK_PATH


@pytest.fixture(scope="module")
def reference() -> Any:
    return AutoTokenizer.from_pretrained(SPARK_PATH, bos_token="<|im_start|>")


def theirs(
    reference: PreTrainedTokenizerFast, source: str, messages: list[dict[str, Any]], **fields: Any
) -> str:
    return str(
        reference.apply_chat_template(
            messages, chat_template=source, tokenize=False, add_generation_prompt=True, **fields
        )
    )


@pytest.mark.parametrize("tools", [None, TOOLS], ids=["bare", "tools"])
@pytest.mark.parametrize("conversation", sorted(CONVERSATIONS))
@pytest.mark.parametrize("family", [*sorted(FAMILIES), "harmony"])
def test_a_family_is_rendered_as_by_transformers(
    reference: Any, family: str, conversation: str, tools: list[dict[str, Any]] | None
):
    source, messages = {**FAMILIES, "harmony": HARMONY}[family], messages_read(CONVERSATIONS[conversation])
    ours = ChatTemplate(source, reference.special_tokens_map).render(messages, tools)
    assert ours == theirs(reference, source, messages, tools=tools)
    assert "Zürich" in ours or conversation in ("plain", "system")
    assert ("get_time" in ours) == bool(tools)


@pytest.mark.parametrize("enable", [True, False])
def test_variables_of_a_request_reach_the_template(reference: Any, enable: bool):
    messages = messages_read(CONVERSATIONS["plain"])
    ours = ChatTemplate(FAMILIES["qwen"], {}).render(messages, variables={"enable_thinking": enable})
    assert ours == theirs(reference, FAMILIES["qwen"], messages, enable_thinking=enable)
    assert ours.endswith("<think>\n\n</think>\n\n") != enable


def test_what_rendering_sets_itself_cannot_be_replaced():
    template = ChatTemplate("{{ messages[0].content }}{{ tools }}{{ add_generation_prompt }}", {})
    names = {"messages": [{"content": "no"}], "tools": "no", "add_generation_prompt": "no"}
    assert template.render([{"role": "user", "content": "x"}], variables=names) == "xNoneTrue"


def test_arguments_are_text_where_the_template_puts_them_into_text(reference: Any):
    """Published templates differ: most print arguments as JSON, some concatenate the string they were given."""
    given = CONVERSATIONS["called"]
    ours = ChatTemplate(RAW_ARGUMENTS, {}).render(messages_read(given))
    assert '<|call|>get_weather\n{"city": "Zürich", "days": [1, 2]}<|end|>' in ours
    # transformers is given the string by such a template's users; content None is left out by it.
    as_given = [{**one, "content": one["content"] or ""} for one in given]
    assert ours == theirs(reference, RAW_ARGUMENTS, as_given).removeprefix("<|im_start|>")


def test_earlier_reasoning_has_the_names_that_templates_look_for(reference: Any):
    source = "{% for m in messages %}{{ m.thinking }}|{{ m.reasoning_content }};{% endfor %}"
    messages = messages_read(CONVERSATIONS["called"])
    ours = ChatTemplate(source, {}).render(messages)
    assert ours == theirs(reference, source, messages) == "|;Look it up.|Look it up.;|;"


def test_a_template_that_refuses_a_conversation_says_why():
    call = {**CONVERSATIONS["called"][1]["tool_calls"][0], "id": "call_1"}
    messages = messages_read([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}])
    with pytest.raises(ApiError, match="nine characters"):
        ChatTemplate(FAMILIES["mistral"], {"bos_token": "", "eos_token": ""}).render(messages)


def test_the_template_for_tools_is_used_with_tools(tmp_path: Path, reference: Any):
    reference.chat_template = {"default": "D", "tool_use": "T{{ tools | length }}"}
    reference.save_pretrained(tmp_path)
    reference.chat_template = None
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    templates = chat_templates_load(tmp_path)
    assert templates
    messages = [{"role": "user", "content": "x"}]
    for tools in (None, TOOLS):
        ours = templates.pick(tools=bool(tools)).render(messages, tools)
        assert ours == loaded.apply_chat_template(messages, tools=tools, tokenize=False)
    assert ours == "T2"


@pytest.mark.parametrize(
    "source",
    [
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{{ raise_exception.__globals__.os }}",
        "{{ (messages | attr('append'))(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ self._TemplateReference__context.x }}",
    ],
)
def test_ways_out_of_the_sandbox_are_closed(source: str):
    with pytest.raises(ApiError):
        ChatTemplate(source, {}).render([{"role": "user", "content": "x"}])
