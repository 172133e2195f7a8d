"""Reasoning, content and calls cut out of one answer, however its pieces fall."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_chat_templates import QWEN, RAW_ARGUMENTS
from kindling_engine.protocol.sampling import TokenLogprobs
from kindling_engine.server.chat_choice import ChatChoice
from kindling_engine.server.chat_output import ChatOutput, ChatShape
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.server.reasoning import ReasoningCount, ReasoningFamily
from kindling_engine.server.tools.deltas import Content, Reasoning, ToolCallArguments, ToolCallStart
from kindling_engine.server.tools.family import ToolFamily
from kindling_examples import examples
from kindling_reasoner import family_text

THINK = ReasoningFamily("<think>", "</think>", (7,), (8,))
SLOW = ReasoningFamily("<think>", "</think>", (7, 1), (8, 2, 8))
TOOLS = ToolFamily("hermes", {}, False)
CALL = '<tool_call>{"name": "find", "arguments": {"q": 1}}</tool_call>'
Told = tuple[str, str, list[str]]


def told(shape: ChatShape, *pieces: str) -> Told:
    output = ChatOutput(shape)
    deltas = [one for piece in pieces for one in output.feed(piece)] + output.feed("", final=True)
    content, reasoning, calls = "", "", []
    source = "".join(pieces)
    for delta in deltas:
        match delta:
            case Content():
                content += delta.text
                assert source[delta.start :].startswith(delta.text)
            case Reasoning():
                assert not content
                reasoning += delta.text
            case ToolCallStart():
                calls.append("")
            case ToolCallArguments():
                calls[-1] += delta.text
    return reasoning, content, calls


@pytest.mark.parametrize(
    ("opened", "text", "expected"),
    [
        (False, "<think>\nHm.\nSo.\n</think>\n\nYes.", ("Hm.\nSo.", "Yes.", [])),
        (True, "Hm.\n</think>\n\nYes.\n", ("Hm.", "Yes.\n", [])),
        (True, "\nHm. </thin", ("Hm. </thin", "", [])),
        (False, "\n <think>Hm.</think>Yes", ("Hm.", "Yes", [])),
        (False, "<think>\n\n</think>\n\nYes", ("", "Yes", [])),
        (False, "Yes <think>no</think>", ("", "Yes <think>no</think>", [])),
        (False, "<thin", ("", "<thin", [])),
        (False, " \n", ("", " \n", [])),
        (False, "", ("", "", [])),
        (True, f"I call {CALL}?</think>\n{CALL}", (f"I call {CALL}?", "", ['{"q": 1}'])),
        (True, f"So</think>\n\nLook: {CALL}\n", ("So", "Look:", ['{"q": 1}'])),
    ],
)  # fmt: skip
def test_an_answer_is_cut_at_its_marks(opened: bool, text: str, expected: Told):
    shape = ChatShape(reasoning=THINK, opened=opened, tools=TOOLS, offered={"find": {}})
    for cut in range(len(text) + 1):
        assert told(shape, text[:cut], text[cut:]) == expected
    assert told(shape, *text) == expected


PIECES = st.sampled_from(["<think>", "</think>", "\n", " ", "a", "<", "</", CALL, "<tool_call>", "b\n\n"])


@settings(max_examples=examples(200), deadline=None)
@given(st.booleans(), st.booleans(), st.lists(PIECES, max_size=8))
def test_where_an_answer_is_cut_changes_nothing(opened: bool, tools: bool, parts: list[str]):
    shape = ChatShape(reasoning=THINK, opened=opened, tools=TOOLS if tools else None, offered={"find": {}})
    whole = "".join(parts)
    assert told(shape, whole) == told(shape, *whole) == told(shape, *parts)


@pytest.mark.parametrize(
    ("family", "opened", "ids", "count"),
    [
        (THINK, True, [1, 2, 3, 8, 4, 5], 3),
        (THINK, True, [8, 4], 0),
        (THINK, True, [1, 2], 2),
        (THINK, False, [7, 1, 2, 8, 7, 3, 8], 2),
        (THINK, False, [0, 0, 7, 1, 8], 1),
        (THINK, False, [1, 7, 2, 8], 0),
        (SLOW, False, [7, 1, 5, 8, 2, 5, 8, 2, 8, 9], 4),
        (SLOW, False, [7, 2, 5], 0),
    ],
)
def test_reasoning_is_counted_in_tokens(family: ReasoningFamily, opened: bool, ids: list[int], count: int):
    for size in range(1, len(ids) + 1):
        counted = ReasoningCount(family, lambda token_id: token_id == 0, opened=opened)
        for batch in itertools.batched(ids, size) if hasattr(itertools, "batched") else [ids]:
            counted.feed(batch)
        assert counted.tokens == count


def test_only_content_has_log_probabilities():
    text = f"Hm</think>\n\nYes. {CALL} Ok"
    entries = [TokenEntry(index, TokenLogprobs(-1.0), index) for index in range(len(text))]
    shape = ChatShape(reasoning=THINK, opened=True, tools=TOOLS, offered={"find": {}})
    for size in (1, 3, len(text)):
        choice, found = ChatChoice(shape), []
        for start in range(0, len(text), size):
            end = start + size
            fed = choice.feed(text[start:end], entries[start:end], final=end >= len(text))
            found += [entry for _, inner in fed for entry in inner]
        assert "".join(text[entry.offset] for entry in found) == "Yes. Ok"
        assert choice.calls == 1


def test_how_a_model_reasons_is_read_from_its_template():
    qwen = family_text(QWEN, marks=("<think>", "</think>")).chat
    assert qwen
    family = qwen.plain.reasoning
    assert family
    assert (family.start, family.end, family.switch) == ("<think>", "</think>", "enable_thinking")
    assert (len(family.start_ids), len(family.end_ids)) == (1, 1)
    assert family.closed("…<think>\n\n</think>\n\n")
    assert family.opened("…<|Assistant|><think>\n")
    # Only the opening mark is there: whether such a model closes its reasoning is not known.
    assert family_text(RAW_ARGUMENTS).chat.plain.reasoning is None  # type: ignore[union-attr]
    assert family_text("{{ messages }}").chat.plain.reasoning is None  # type: ignore[union-attr]
