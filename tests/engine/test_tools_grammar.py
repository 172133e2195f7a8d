"""The grammars that bind calls: what they accept and refuse, token by token; and which family a model is of."""

import json
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer
from tokenizers import AddedToken, Tokenizer

from kindling_chat_templates import FAMILIES
from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import grammar_text
from kindling_engine.protocol.sampling import Constraint
from kindling_engine.server.tools.family import ToolFamily, tool_family_find
from kindling_engine.server.tools.grammar import AnswerFormatError, BoundTool, tool_grammar
from kindling_engine.starter import SPARK_PATH

NUMBER = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}
TOOLS = [BoundTool("a", NUMBER), BoundTool("b", {"type": "object"})]
A, A_BAD, B = '{"x": 1}', '{"x": "1"}', '{"y": [1, 2], "z": {}}'


def hermes(name: str, arguments: str, gap: str = "\n") -> str:
    return f'<tool_call>{gap}{{"name": "{name}", "arguments": {arguments}}}{gap}</tool_call>'


def plain(name: str, arguments: str, key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


FORMS: dict[str, Any] = {
    "hermes": lambda *calls: "\n".join(hermes(*call) for call in calls),
    "llama": lambda *calls: ";".join(plain(*call, key="parameters") for call in calls),
    "mistral": lambda *calls: "[TOOL_CALLS] [" + ", ".join(plain(*call) for call in calls) + "]",
    "mistral-named": lambda *calls: "".join(f"[TOOL_CALLS]{name}[ARGS]{text}" for name, text in calls),
}


def spark(*, marks: bool = True) -> Tokenizer:
    """The starter's tokenizer, with the marks of all families as tokens, or with none of them."""
    raw = json.loads((SPARK_PATH / "tokenizer.json").read_text())
    if not marks:
        raw["added_tokens"] = [one for one in raw["added_tokens"] if "tool_call" not in one["content"]]
        for mark in ("<tool_call>", "</tool_call>"):
            raw["model"]["vocab"][f"unused{mark[1]}"] = raw["model"]["vocab"].pop(mark)
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    if marks:
        tokenizer.add_tokens(
            [AddedToken(mark, special=True) for mark in ("[TOOL_CALLS]", "[ARGS]", "<|python_tag|>")]
        )
    return tokenizer


class Judge:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._library = LLTokenizer(tokenizer.to_str())

    def accepts(self, constraint: Constraint, text: str) -> bool:
        """Whether the text can be made and ended there."""
        matcher = LLMatcher(self._library, grammar_text(constraint.kind, constraint.text))
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return bool(
            matcher.validate_tokens(ids) == len(ids)
            and matcher.consume_tokens(ids)
            and matcher.is_accepting()
        )


@pytest.fixture(scope="module", params=[True, False], ids=["tokens", "letters"])
def world(request: pytest.FixtureRequest) -> tuple[Tokenizer, Judge]:
    tokenizer = spark(marks=request.param)
    return tokenizer, Judge(tokenizer)


@pytest.mark.parametrize("name", sorted(FORMS))
def test_a_demanded_call_is_one_of_the_tools_with_its_schema(world: tuple[Tokenizer, Judge], name: str):
    tokenizer, judge = world
    family = tool_family_find(FAMILIES.get(name, FAMILIES["qwen"]), tokenizer)
    assert family
    write, bound = FORMS[family.name], tool_grammar(family, TOOLS, required=True, parallel=True)
    assert judge.accepts(bound, write(("a", A)))
    assert judge.accepts(bound, write(("b", B)))
    assert judge.accepts(bound, "\n\n" + write(("b", B)))
    assert judge.accepts(bound, write(("a", A), ("b", B))) == (name != "llama")
    for text in (
        "",
        "Hello",
        write(("a", A_BAD)),
        write(("c", A)),
        "Hi " + write(("a", A)),
        write(("a", A)) + " Hi",
    ):
        assert not judge.accepts(bound, text)
    single = tool_grammar(family, TOOLS, required=True, parallel=False)
    assert judge.accepts(single, write(("a", A)))
    assert not judge.accepts(single, write(("a", A), ("b", B)))


@pytest.mark.parametrize("name", sorted(FORMS))
def test_calls_of_a_free_answer_keep_their_schemas(world: tuple[Tokenizer, Judge], name: str):
    tokenizer, judge = world
    family = tool_family_find(FAMILIES[name], tokenizer)
    assert family
    write, bound = FORMS[name], tool_grammar(family, TOOLS, required=False, parallel=True)
    for text in ("", "Hello <b>you</b> [1] {x}", write(("a", A)), write(("b", B))):
        assert judge.accepts(bound, text), text
    assert not judge.accepts(bound, write(("a", A_BAD)))
    if name != "llama":
        assert judge.accepts(bound, "Look: " + write(("a", A), ("b", B)))
        assert not judge.accepts(bound, "Look: " + write(("a", A_BAD)))


def test_an_answer_in_a_format_may_be_a_call_instead(world: tuple[Tokenizer, Judge]):
    tokenizer, judge = world
    family = tool_family_find(FAMILIES["qwen"], tokenizer)
    assert family
    answer = Constraint("json_schema", json.dumps(NUMBER))
    bound = tool_grammar(family, TOOLS, required=False, parallel=True, answer=answer)
    assert judge.accepts(bound, A)
    assert judge.accepts(bound, hermes("a", A))
    for text in ("Hello", A_BAD, hermes("a", A_BAD)):
        assert not judge.accepts(bound, text)
    anything = tool_grammar(family, TOOLS, required=False, parallel=True, answer=Constraint("json_object"))
    assert judge.accepts(anything, B)
    with pytest.raises(AnswerFormatError):
        tool_grammar(family, TOOLS, required=False, parallel=True, answer=Constraint("regex", "a"))


def test_arguments_are_an_object_whatever_the_schema_leaves_open():
    judge, family = Judge(spark()), ToolFamily("llama", {}, False)
    for schema in ({}, {"properties": NUMBER["properties"]}, {"anyOf": [NUMBER, {"type": "array"}]}):
        bound = tool_grammar(family, [BoundTool("a", schema)], required=True, parallel=True)
        assert judge.accepts(bound, plain("a", A, "parameters"))
        assert not judge.accepts(bound, plain("a", "[]", "parameters"))
        assert not judge.accepts(bound, plain("a", "5", "parameters"))


def test_a_schema_that_is_not_kept_is_refused_with_its_place():
    bad = {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}
    tool = BoundTool("b", bad, "tools[1].function.parameters")
    with pytest.raises(ConstraintError, match=r"^tools\[1\]\.function\.parameters: .*uniqueItems") as refused:
        tool_grammar(ToolFamily("llama", {}, False), [TOOLS[0], tool], required=True, parallel=True)
    assert refused.value.code == "unsupported_schema"


def test_the_family_is_read_from_the_template():
    tokenizer = spark()
    found = {name: tool_family_find(source, tokenizer) for name, source in FAMILIES.items()}
    assert {name: one and one.name for name, one in found.items()} == {
        "llama": "llama", "qwen": "hermes", "hermes": "hermes", "mistral": "mistral", "mistral-named": "mistral-named",
    }  # fmt: skip
    assert {name for name, one in found.items() if one and one.shows_special} == {
        "llama",
        "mistral",
        "mistral-named",
    }
    assert found["qwen"] and set(found["qwen"].mark_ids) == {"<tool_call>", "</tool_call>"}
    for source in ("{{ messages }}", "<tool_call>\n<function=f>", "<tool_call>f\n<arg_key>"):
        assert tool_family_find(source, tokenizer) is None
