"""The grammars that bind calls: what they accept and refuse, token by token; and which family a model is of."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from llguidance import LLMatcher, LLTokenizer
from tokenizers import AddedToken, Tokenizer

from kindling_chat_templates import FAMILIES
from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import grammar_text
from kindling_engine.protocol.sampling import Constraint
from kindling_engine.server.tool_fields import Tool, ToolAsk
from kindling_engine.server.tools.binding import tools_bind
from kindling_engine.server.tools.deltas import ToolCallArguments
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
A, A_BAD, B = '{"x": 1}', '{"x": "one"}', '{"y": [1, 2], "z": {}}'


def hermes(name: str, arguments: str, gap: str = "\n") -> str:
    return f'<tool_call>{gap}{{"name": "{name}", "arguments": {arguments}}}{gap}</tool_call>'


def plain(name: str, arguments: str, key: str = "arguments") -> str:
    return f'{{"name": "{name}", "{key}": {arguments}}}'


def between(key: str, value: str) -> Callable[..., str]:
    """Calls whose arguments stand between tags; texts as they are, the rest as JSON."""

    def write(*calls: tuple[str, str]) -> str:
        return "\n".join(one(*call) for call in calls)

    def one(name: str, text: str) -> str:
        arguments = json.loads(text).items()
        said = "".join(
            key.format(name) + value.format(one if isinstance(one, str) else json.dumps(one))
            for name, one in arguments
        )
        if key.startswith("<arg_key>"):
            return f"<tool_call>{name}\n{said}</tool_call>"
        return f"<tool_call>\n<function={name}>\n{said}</function>\n</tool_call>"

    return write


FORMS: dict[str, Any] = {
    "hermes": lambda *calls: "\n".join(hermes(*call) for call in calls),
    "llama": lambda *calls: ";".join(plain(*call, key="parameters") for call in calls),
    "mistral": lambda *calls: "[TOOL_CALLS] [" + ", ".join(plain(*call) for call in calls) + "]",
    "mistral-named": lambda *calls: "".join(f"[TOOL_CALLS]{name}[ARGS]{text}" for name, text in calls),
    "function-tags": between("<parameter={}>\n", "{}\n</parameter>\n"),
    "argument-tags": between("<arg_key>{}</arg_key>\n", "<arg_value>{}</arg_value>\n"),
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
    if name == "function-tags":
        # Its parser reads a call whose mark is forgotten, too.
        bare = write(("a", A_BAD)).removeprefix("<tool_call>\n")
        assert not judge.accepts(bound, bare) and not judge.accepts(bound, bare + write(("a", A)))
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
    options = [{"$ref": "#/$defs/number"}, {"type": "string"}]
    either = Constraint(
        "json_schema", json.dumps({"oneOf": options, "$defs": {"number": {"type": "integer"}}})
    )
    bound = tool_grammar(family, TOOLS, required=False, parallel=True, answer=either)
    assert judge.accepts(bound, '"a"') and not judge.accepts(bound, A)
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
        "function-tags": "function-tags", "argument-tags": "argument-tags",
    }  # fmt: skip
    assert {name for name, one in found.items() if one and one.shows_special} == {
        "llama",
        "mistral",
        "mistral-named",
    }
    assert found["qwen"] and set(found["qwen"].mark_ids) == {"<tool_call>", "</tool_call>"}
    assert tool_family_find("{{ messages }}", tokenizer) is None


WIDE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string", "description": "Where"},
        "mode": {"enum": ["r", "w\n", None]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "deep": {"$ref": "#/$defs/deep"},
        "either": {"type": ["string", "integer"]},
        "old": {"allOf": [{"$ref": "#/$defs/deep"}], "description": "As older libraries write it"},
        "kind": {"anyOf": [{"type": "string", "enum": ["x", "y\x7f"]}, {"type": "null"}], "default": None},
        "never": False,
        'näme \x7f"': {"type": "integer", "minimum": 5},
    },
    "required": ["path", "mode", "more"],
    "$defs": {
        "line": {"type": "integer"},
        "deep": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
    },
}


@pytest.mark.parametrize("name", ["function-tags", "argument-tags"])
@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({"path": "/tmp/<b>\n\n", "mode": "r", "more": "x"}, True),
        ({"path": "", "mode": None, "lines": [1, 2], "deep": {"on": True}, "either": "a", "more": ""}, True),
        ({"path": "a", "mode": "w\n", "either": 5, "more": "</parameter"}, True),
        (
            {"path": "a", "mode": "r", "old": {"on": False}, "kind": "y\x7f", 'näme \x7f"': 5, "more": ""},
            True,
        ),
        ({"path": "a", "mode": "r", "kind": None, "more": ""}, True),
        ({"path": "a", "mode": "r", "old": {}, "more": ""}, False),
        ({"path": "a", "mode": "r", "kind": "z", "more": ""}, False),
        ({"path": "a", "mode": "r", "never": "", "more": ""}, False),
        ({"path": "a", "mode": "r", 'näme \x7f"': 4, "more": ""}, False),
        ({"path": "a", "mode": "x", "more": ""}, False),
        ({"path": "a", "mode": "r", "lines": ["a"], "more": ""}, False),
        ({"path": "a", "mode": "r", "deep": {}, "more": ""}, False),
        ({"path": "a", "mode": "r"}, False),
        ({"mode": "r", "more": ""}, False),
        ({"path": "a", "mode": "r", "more": "", "unknown": ""}, False),
    ],
)
def test_arguments_between_tags_are_of_their_types(
    world: tuple[Tokenizer, Judge], name: str, arguments: dict[str, Any], kept: bool
):
    tokenizer, judge = world
    family = tool_family_find(FAMILIES[name], tokenizer)
    assert family and family.tags
    bound = tool_grammar(family, [BoundTool("edit", WIDE)], required=True, parallel=True)
    text = FORMS[name](("edit", json.dumps(arguments)))
    assert judge.accepts(bound, text) is kept
    if kept:
        parser = family.parser({"edit": WIDE})
        told = parser.feed(text, final=True)
        assert (
            json.loads("".join(one.text for one in told if isinstance(one, ToolCallArguments))) == arguments
        )


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {"type": "string", "pattern": "a+"}}},
        {"properties": {"a": {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "null"}]}}},
        {"properties": {"a": {"type": "string", "format": "date"}}},
        {"properties": {"a": {"type": "integer"}}, "anyOf": [{"required": ["a"]}]},
        {"properties": {"a>b": {"type": "string"}}},
        # Behind references, and beside others.
        {
            "properties": {"a": {"anyOf": [{"$ref": "#/$defs/s"}, {"type": "null"}]}},
            "$defs": {"s": {"type": "string", "pattern": "a"}},
        },
        {"properties": {"a": {"allOf": [{"type": "string"}, {"maxLength": 3}]}}},
        # Whatever is no number of these would be a text.
        {"properties": {"a": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 5}]}}},
        {"properties": {"a": {"type": ["string", "object"], "required": ["x"]}}},
        {
            "properties": {"a": {"$ref": "#/$defs/i", "minimum": 5}},
            "$defs": {"i": {"type": "integer", "minimum": 1}},
        },
        {"properties": {"a": {"enum": ["x", "</parameter>"]}}},
        {"properties": {"a": {"type": "array", "items": {"$ref": "#"}}}},
        {
            "properties": {
                "a": {"type": "array", "items": {"$ref": "#/properties/b"}},
                "b": {"type": "integer"},
            }
        },
        {"properties": {"a": {"type": "integer"}}, "required": ["b"], "additionalProperties": False},
        {"properties": {"a": {"type": "integer"}, "b": False}, "required": ["b"]},
    ],
)
def test_what_texts_between_tags_are_not_held_to_is_refused_with_its_place(parameters: dict[str, Any]):
    family = tool_family_find(FAMILIES["function-tags"], spark())
    assert family
    tool = BoundTool("a", {"type": "object", **parameters}, "tools[0].function.parameters")
    with pytest.raises(ConstraintError, match=r"^tools\[0\]\.function\.parameters: ") as refused:
        tool_grammar(family, [tool], required=True, parallel=True)
    assert refused.value.code == "unsupported_schema"
    bound, unkept = tools_bind(ask(tool.parameters), tags=family.tags)
    assert unkept and judge_accepts_some_call(family, bound)


def ask(parameters: dict[str, Any]) -> ToolAsk:
    tool = Tool(
        "a", {"name": "a", "parameters": parameters}, strict=False, place="tools[0].function.parameters"
    )
    return ToolAsk((tool,), choice="required")


def judge_accepts_some_call(family: ToolFamily, bound: list[BoundTool]) -> bool:
    grammar = tool_grammar(family, bound, required=True, parallel=True)
    judge, write = Judge(spark()), FORMS["function-tags"]
    calls = ["{}", *(json.dumps({name: one}) for name in "ab" for one in ("x", 1, 7, []))]
    return any(judge.accepts(grammar, write(("a", call))) for call in calls)


def test_values_of_names_that_are_not_given_keep_their_schema():
    family = tool_family_find(FAMILIES["function-tags"], spark())
    assert family
    judge, write = Judge(spark()), FORMS["function-tags"]
    closed = BoundTool("a", {"type": "object", "additionalProperties": {"type": "integer"}})
    bound = tool_grammar(family, [closed], required=True, parallel=True)
    assert judge.accepts(bound, write(("a", '{"x": 1, "y": 2}')))
    assert not judge.accepts(bound, write(("a", '{"x": "one"}')))
    parser = family.parser({"a": closed.parameters})
    told = parser.feed(write(("a", '{"x": 1}')), final=True)
    assert "".join(one.text for one in told if isinstance(one, ToolCallArguments)) == '{"x": 1}'


def test_definitions_are_written_once_and_no_more_than_are_used():
    definitions = {
        f"d{n}": {"type": "object", "properties": {"x": {"type": "integer", "minimum": n}}} for n in range(60)
    }
    properties = {f"p{n}": {"$ref": f"#/$defs/d{n % 30}"} for n in range(60)}
    tool = BoundTool("a", {"type": "object", "properties": properties, "$defs": definitions})
    family = tool_family_find(FAMILIES["function-tags"], spark())
    assert family
    bound = tool_grammar(family, [tool], required=True, parallel=True)
    assert len(bound.text) < 4 * len(json.dumps(tool.parameters))
    judge, write = Judge(spark()), FORMS["function-tags"]
    assert judge.accepts(bound, write(("a", '{"p3": {"x": 3}, "p33": {"x": 4}}')))
    assert not judge.accepts(bound, write(("a", '{"p33": {"x": 2}}')))


def test_schemas_that_make_a_grammar_huge_are_refused_before_it_is():
    chain = {f"d{n}": {"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(400)}
    chain["d400"] = {"type": "integer"}
    properties = {f"p{n}": {"$ref": f"#/$defs/d{n}"} for n in range(400)}
    tool = BoundTool("a", {"type": "object", "properties": properties, "$defs": chain})
    family = tool_family_find(FAMILIES["function-tags"], spark())
    assert family
    with pytest.raises(ConstraintError, match="larger than 256 KiB"):
        tool_grammar(family, [tool], required=True, parallel=True)
    assert tools_bind(ask(tool.parameters), tags=family.tags)[0][0].parameters == {"type": "object"}
