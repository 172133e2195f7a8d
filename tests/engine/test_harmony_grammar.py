"""The grammars of harmony answers: which messages they accept, token by token, and in what the last is bound."""

import json
from functools import cache

import pytest
from llguidance import LLMatcher, LLTokenizer

from kindling_chat_templates import HARMONY, HARMONY_MARKS
from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import grammar_text
from kindling_engine.protocol.sampling import Constraint
from kindling_engine.server.harmony.grammar import harmony_grammar
from kindling_engine.server.harmony.marks import Harmony
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.tools.grammar import BoundTool
from kindling_reasoner import family_text

NUMBER = {
    "type": "object",
    "properties": {"x": {"type": "integer"}},
    "required": ["x"],
    "additionalProperties": False,
}
EITHER = {
    "oneOf": [{"$ref": "#/$defs/number"}, {"type": "string"}],
    "$defs": {"number": {"type": "integer"}},
}
# One name begins another.
TOOLS = [BoundTool("a", NUMBER), BoundTool("ab", {"type": "object"})]
THOUGHT = "<|channel|>analysis<|message|>Hm, so.<|end|><|start|>assistant"
SAID = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
FINAL = "<|channel|>final<|message|>"
CALL = '<|channel|>commentary to=functions.a <|constrain|>json<|message|>{"x": 1}'


@cache
def text() -> ModelText:
    return family_text(HARMONY, marks=HARMONY_MARKS, special=True)


@cache
def harmony() -> Harmony:
    chat = text().chat
    assert chat and chat.plain.harmony
    return chat.plain.harmony


@cache
def library() -> LLTokenizer:
    return LLTokenizer(text().tokenizer.to_str(), eos_token=[*harmony().end_ids, 0])


def accepts(constraint: Constraint, answer: str) -> bool:
    """Whether the answer can be made and ended there."""
    matcher = LLMatcher(library(), grammar_text(constraint.kind, constraint.text), log_level=0)
    ids = text().tokenizer.encode(answer, add_special_tokens=False).ids
    return bool(
        matcher.validate_tokens(ids) == len(ids) and matcher.consume_tokens(ids) and matcher.is_accepting()
    )


@pytest.mark.parametrize(
    ("answer", "free", "demanded"),
    [
        (FINAL, True, False),
        (f"{THOUGHT}{FINAL}Yes.\n", True, False),
        (f"{THOUGHT}{THOUGHT}{SAID}{THOUGHT}{FINAL}Yes.", True, False),
        (f"{THOUGHT}{SAID}{CALL}", True, False),
        (CALL, True, True),
        (f"{THOUGHT}{THOUGHT}{CALL}", True, True),
        (f"{CALL}<|call|>", True, True),
        (' to=functions.a<|channel|>commentary json<|message|>{"x": 1}', True, True),
        ("<|channel|>commentary to=functions.ab<|message|>{}", True, True),
        ("<|channel|>commentary to=functions.ab<|constrain|>json<|message|>{}", True, True),
        (CALL.replace("1", '"1"'), False, False),
        (CALL[:-1], False, False),
        (f"{CALL}<|end|><|start|>assistant{CALL}", False, False),
        ("<|channel|>commentary to=functions.abc<|message|>{}", False, False),
        ("<|channel|>analysis to=functions.ab<|message|>{}", False, False),
        ("<|channel|>commentary to=python<|message|>{}", False, False),
        ("<|channel|>poem<|message|>Yes.", False, False),
        ("Yes.", False, False),
        ("", False, False),
        (THOUGHT, False, False),
        (f"{THOUGHT}Yes.", False, False),
        (f"{FINAL}Yes.<|channel|>", False, False),
    ],
)
def test_an_answer_keeps_the_form_and_calls_their_schemas(answer: str, free: bool, demanded: bool):
    assert accepts(harmony_grammar(harmony(), TOOLS, required=False), answer) is free
    assert accepts(harmony_grammar(harmony(), TOOLS, required=True), answer) is demanded


@pytest.mark.parametrize(
    ("kind", "wanted", "kept", "broken"),
    [
        ("json_object", "", '{\n  "a": []\n}', "[]"),
        ("json_schema", json.dumps(NUMBER), '{"x":1}', '{"x": "1"}'),
        ("json_schema", json.dumps(EITHER), '"5"', "{}"),
        ("regex", "a/b\\/c{1,2}", "a/b/cc", "a/b/ccc"),
        ("regex", "a\nb", "a\nb", "a b"),
        ("lark", 'start: thought+ TEXT\nthought: "x"\nTEXT: /[0-9]/', "xx4", "xxx"),
        ("lark", '%ignore " "\nstart: "x" "}" // }', "x  }", "x"),
        ("lark", '%import common.INT\nstart: INT "/"', "42/", "x/"),
    ],
)
@pytest.mark.parametrize("tools", [[], TOOLS], ids=["bare", "tools"])
def test_a_format_binds_what_the_last_message_says(
    kind: str, wanted: str, kept: str, broken: str, tools: list[BoundTool]
):
    bound = harmony_grammar(harmony(), tools, required=False, answer=Constraint(kind, wanted))
    assert accepts(bound, f"{FINAL}{kept}")
    assert accepts(bound, f"{THOUGHT}{THOUGHT}{FINAL}{kept}")
    assert not accepts(bound, f"{FINAL}{broken}")
    assert not accepts(bound, kept)
    assert not accepts(bound, f"{SAID}{FINAL}{kept}")
    assert accepts(bound, CALL) is bool(tools)


@pytest.mark.parametrize("tools", [[], TOOLS], ids=["bare", "tools"])
@pytest.mark.parametrize("budget", [0, 1, 3])
def test_thoughts_have_a_budget_in_tokens(budget: int, tools: list[BoundTool]):
    bound = harmony_grammar(harmony(), tools, required=False, budget=budget)
    assert accepts(bound, f"{FINAL}Yes.")
    assert accepts(bound, f"{SAID}{CALL}") is bool(tools)
    for count in range(5):
        thought = f"<|channel|>analysis<|message|>{' and' * count}<|end|><|start|>assistant"
        assert accepts(bound, f"{thought}{FINAL}Yes.") is (budget > 0 and count <= budget)
        assert accepts(bound, f"{SAID}{thought}{SAID}{CALL}") is (bool(tools) and 0 < budget >= count)
        assert not accepts(bound, f"{thought}{thought}{FINAL}Yes.")
    assert accepts(harmony_grammar(harmony(), tools, required=False, budget=1 << 31), f"{THOUGHT}{FINAL}Yes.")


def test_a_schema_that_is_not_kept_is_refused_with_its_place():
    bad = {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}
    tool = BoundTool("b", bad, "tools[1].function.parameters")
    with pytest.raises(ConstraintError, match=r"^tools\[1\]\.function\.parameters: .*uniqueItems"):
        harmony_grammar(harmony(), [TOOLS[0], tool], required=True)
