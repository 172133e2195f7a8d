"""Answers in OpenAI's harmony format: every form of its messages, in any pieces, and nothing lost that has no form."""
# ruff: noqa: E501 - tables of texts read best unwrapped

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from kindling_chat_templates import HARMONY, HARMONY_MARKS, QWEN
from kindling_engine.server.chat_choice import ChatChoice
from kindling_engine.server.chat_output import ChatOutput, ChatShape
from kindling_engine.server.harmony.count import HarmonyCount
from kindling_engine.server.harmony.marks import MARKS, Harmony, harmony_find
from kindling_engine.server.harmony.parser import HarmonyParser
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.server.tools.deltas import (
    Content,
    Delta,
    Reasoning,
    ToolCallArguments,
    ToolCallStart,
)
from kindling_engine.starter import SPARK_PATH
from kindling_examples import examples

NAMES = ("find", "get_time", "find.all")
Told = tuple[str, str, list[tuple[str, str]]]


def marked(text: str) -> str:
    """A text with its marks as an answer has them."""
    for mark, char in zip(HARMONY_MARKS, MARKS, strict=True):
        text = text.replace(mark, char)
    return text


def told(deltas: list[Delta], source: str) -> Told:
    """Reasoning, content and calls; also checks where content stood, and that deltas come in a lawful order."""
    reasoning, content, calls = "", "", []
    for delta in deltas:
        match delta:
            case Reasoning():
                reasoning += delta.text
                assert delta.text
            case Content():
                content += delta.text
                assert delta.text
                assert delta.text in ("\n\n", " ") or source[delta.start :].startswith(delta.text)
            case ToolCallStart():
                assert delta.index == len(calls)
                calls.append((delta.name, ""))
            case ToolCallArguments():
                assert delta.text and delta.index == len(calls) - 1
                calls[-1] = (calls[-1][0], calls[-1][1] + delta.text)
    return reasoning, content, calls


def parse(*pieces: str, cut: bool = False) -> Told:
    parser = HarmonyParser(NAMES)
    out = [delta for piece in pieces for delta in parser.feed(piece)]
    return told(out + parser.feed("", final=True, cut=cut), "".join(pieces))


THOUGHT = "<|channel|>analysis<|message|>Hm, so.<|end|>"
NEXT = "<|start|>assistant"
FINAL = "<|channel|>final<|message|>"
TO = "<|channel|>commentary to=functions.find <|constrain|>json<|message|>"
ARGUMENTS = '{"q": "a }<|", "n": [1]}'
FOUND = ("find", ARGUMENTS)

CASES: list[tuple[str, Told]] = [
    ("", ("", "", [])),
    (f"{THOUGHT}{NEXT}{FINAL}Yes.\n<|return|>", ("Hm, so.", "Yes.\n", [])),
    (f"{FINAL}Yes.", ("", "Yes.", [])),
    (f"{THOUGHT}{NEXT}{THOUGHT}{NEXT}{FINAL}Yes.", ("Hm, so.\n\nHm, so.", "Yes.", [])),
    (f"{THOUGHT}{NEXT}{TO}{ARGUMENTS}<|call|>", ("Hm, so.", "", [FOUND])),
    # The recipient before the channel, the type without its mark or not at all, other channels.
    (f" to=functions.find<|channel|>commentary json<|message|>{ARGUMENTS}<|call|>", ("", "", [FOUND])),
    (f"<|channel|>commentary to=functions.find<|message|>{ARGUMENTS}", ("", "", [FOUND])),
    (f"<|channel|>commentary to=functions.find<|constrain|>json<|message|>{ARGUMENTS}", ("", "", [FOUND])),
    (f"<|channel|>analysis to=find json<|message|>{ARGUMENTS}", ("", "", [FOUND])),
    ("to=functions.find.all<|message|>{}", ("", "", [("find.all", "{}")])),
    (f"{THOUGHT}{NEXT} to=functions.get_time<|channel|>commentary<|message|>", ("Hm, so.", "", [("get_time", "{}")])),
    (f"{TO} \n{ARGUMENTS}\n <|call|>{NEXT}<|channel|>commentary to=functions.get_time<|message|> <|call|>", ("", "", [FOUND, ("get_time", "{}")])),
    # Types of every kind, behind the recipient or in front of it.
    *[(f"<|channel|>{head}<|message|>{ARGUMENTS}", ("", "", [FOUND])) for head in (
        "commentary to=functions.find JSON", "commentary to=functions.find application/json", "commentary json to=functions.find",
        "commentary to=functions.find <|constrain|>json_object", "commentary <|constrain|>json to=functions.find",
        "final to=functions.find <|constrain|> application/x-json+v1.2",
    )],
    ("<|channel|>final <|constrain|>response.v2<|message|>{}", ("", "{}", [])),
    ("<|channel|>final v2<|message|>{}", ("", " v2{}", [])),
    ("<|channel|>final <|constrain|>json_object{}", ("", "{}", [])),
    ("<|channel|>commentary to=functions.find Yes, I do", ("", "", [("find", "Yes, I do")])),
    # What is longer than names are is no name.
    (f"<|channel|>commentary to={'x' * 300}<|message|>y", ("", f"to={'x' * 300}y", [])),
    (f"<|channel|>final <|constrain|>{'x' * 70}<|message|>y", ("", f"{'x' * 6}y", [])),
    # What the user is told before a call.
    (f"{THOUGHT}{NEXT}<|channel|>commentary<|message|>I look.<|end|>{NEXT}{TO}{{}}<|call|>", ("Hm, so.", "I look.", [("find", "{}")])),
    (f"<|channel|>commentary<|message|>I look.<|end|>{NEXT}{FINAL}Yes.", ("", "I look.\n\nYes.", [])),
    (f"{FINAL[:-11]} <|constrain|>json<|message|>{{}}", ("", "{}", [])),
    # Calls of nobody's tools are content, with whom they call; those in thoughts are thoughts.
    ("<|channel|>commentary to=functions.rm <|constrain|>json<|message|>{}<|call|>", ("", "to=functions.rm {}", [])),
    (" to=python<|channel|>commentary<|message|>1 + 1", ("", "to=python 1 + 1", [])),
    ("<|channel|>commentary to=python, I think", ("", "to=python, I think", [])),
    ("<|channel|>analysis to=python code<|message|>1 + 1<|call|>", ("1 + 1", "", [])),
    ("<|channel|>analysis to=browser.search<|message|>{}<|call|>", ("{}", "", [])),
    (f"{FINAL}Yes.<|end|><|start|>functions.find to=assistant<|channel|>commentary<|message|>x", ("", "Yes.\n\nx", [])),
    # Arguments that are none stay as the model wrote them.
    (f"{TO}a, b<|call|>", ("", "", [("find", "a, b")])),
    (f'{TO}{{"q": oops}} x<|call|>', ("", "", [("find", '{"q": oops} x')])),
    # No channel, one that nobody knows, no mark in front of the text, none at all.
    ("<|message|>Yes.", ("", "Yes.", [])),
    (f"{THOUGHT}Yes.", ("Hm, so.", "Yes.", [])),
    (f"{THOUGHT}{FINAL}Yes.", ("Hm, so.", "Yes.", [])),
    (f"{THOUGHT}{NEXT}<|channel|>poem<|message|>Yes.", ("Hm, so.", "Yes.", [])),
    ("<|channel|>final Yes, I do.", ("", " Yes, I do.", [])),
    ("<|channel|>final to be, or not.", ("", " to be, or not.", [])),
    ("<|channel|>analysis\n\nHm.<|end|>", ("\n\nHm.", "", [])),
    (f"<|channel|>commentary to=functions.find {ARGUMENTS}", ("", "", [FOUND])),
    (f"<|channel|>commentary<|channel|>analysis<|message|>Hm.<|end|>{NEXT}{FINAL}Yes.", ("Hm.", "Yes.", [])),
    ("<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Yes.", ("Hm.", "Yes.", [])),
    (f"<|channel|>analysis<|message|>Hm.{NEXT}{FINAL}Yes.", ("Hm.", "Yes.", [])),
    (f"{FINAL}Ye<|message|>s<|constrain|>.", ("", "Yes.", [])),
    *[(text, ("", text, [])) for text in ("Yes.", "Yes", "Hello there, friend", "assistant is here", "to", " so", "to=x y", "\n1 < 2", "assistant", " to=functions.find", " ")],
    ("Yes<|return|>", ("", "Yes", [])),
    ("Yes<|message|> I do", ("", "Yes\n\n I do", [])),
    ("<|channel|>poem about<|return|>", ("", "poem about", [])),
    ("<|channel|>poem", ("", "poem", [])),
    ("Yes <|constrain|>json", ("", "Yes json", [])),
    # Headers that nothing follows say nothing.
    *[(text, ("", "", [])) for text in (
        "<|channel|>", "<|channel|>final", "<|channel|>commentary to=functions.find <|constrain|>json<|call|>",
        "<|start|>assistant<|return|>", "<|return|>", "<|end|><|start|>", "<|end|>\n", FINAL,
    )],
    # In letters marks are letters: as text they have no meaning.
    (f"{FINAL}It writes <|CHANNEL|>.", ("", "It writes <|channel|>.", [])),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES, ids=range(len(CASES)))
def test_what_an_answer_says(text: str, expected: Told):
    source = marked(text).replace("<|CHANNEL|>", "<|channel|>")
    for cut in range(len(source) + 1):
        assert parse(source[:cut], source[cut:]) == expected
    assert parse(*source) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{THOUGHT}{NEXT}<|channel|>commen", ("Hm, so.", "", [])),
        (f"{THOUGHT}{NEXT}{TO[:-11]}", ("Hm, so.", "", [])),
        (f"{THOUGHT}<|start|>assi", ("Hm, so.", "", [])),
        ("<|channel|>analysis<|message|>Hm", ("Hm", "", [])),
        (f"{FINAL}Ye", ("", "Ye", [])),
        (TO, ("", "", [("find", "")])),
        (f'{TO}{{"q": "', ("", "", [("find", '{"q": "')])),
        (" to=functions.fi", ("", "", [])),
        ("<|end|>Hel", ("", "", [])),
        # It may have begun a header, and is more likely all that was said.
        ("Hello", ("", "Hello", [])),
        (" to", ("", " to", [])),
        ("Hello there", ("", "Hello there", [])),
    ],
)
def test_of_an_answer_that_was_cut_no_half_header_is_shown(text: str, expected: Told):
    source = marked(text)
    for cut in range(len(source) + 1):
        assert parse(source[:cut], source[cut:], cut=True) == expected


@pytest.mark.parametrize(
    ("text", "unfinished"),
    [
        (f"{THOUGHT}{NEXT}{FINAL}Yes.", False),
        (f"{TO}{ARGUMENTS}", False),
        (f"{TO}{ARGUMENTS}<|call|>", False),
        (f"{TO}{ARGUMENTS[:-1]}", True),
        (f"{TO}", True),
        (f"{TO}a, b", False),
    ],
)
def test_a_call_is_unfinished_while_its_arguments_are(text: str, unfinished: bool):
    for pieces in ([marked(text)], list(marked(text))):
        parser = HarmonyParser(NAMES)
        for piece in pieces:
            parser.feed(piece)
        parser.feed("", final=True, cut=True)
        assert parser.unfinished is unfinished


PIECES = st.sampled_from([
    *MARKS, "analysis", "commentary", "final", "assistant", "user", "poem", " ", "\n", "to=", " to=functions.find", "to=python",
    "json", "text", "x" * 70, "x" * 200, " t", "/", "{", "}", '"', ARGUMENTS, marked(TO), marked(THOUGHT), marked(FINAL), marked(NEXT), "é", "<|channel|>",
])  # fmt: skip
WORDS = st.sampled_from(
    ["analysis", "assistant", " ", "\n", "to=", " to=functions.find", "json", "text", "{", "é", "<|channel|>"]
)


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(PIECES, max_size=12), st.booleans(), st.data())
def test_where_an_answer_is_cut_changes_nothing(parts: list[str], cut: bool, data: st.DataObject):
    source = "".join(parts)
    expected = parse(source, cut=cut)
    assert parse(*source, cut=cut) == expected
    assert parse(*parts, cut=cut) == expected
    cuts = sorted(data.draw(st.lists(st.integers(0, len(source)), max_size=6)))
    pieces = [source[a:b] for a, b in zip([0, *cuts], [*cuts, len(source)], strict=True)]
    assert parse(*pieces, cut=cut) == expected
    reasoning, content, calls = expected
    said = reasoning + content + "".join(name + arguments for name, arguments in calls)
    assert not set(said) & set(MARKS)
    # No header holds it, so it is always said.
    assert cut or said.count("é") == source.count("é")


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(WORDS, max_size=8))
def test_a_text_without_marks_is_content_letter_by_letter(parts: list[str]):
    text = "".join(parts)
    _, content, calls = parse(text)
    assert not calls
    assert content == text


def test_an_answer_streams_while_it_arrives():
    parser = HarmonyParser(NAMES)
    assert parser.feed(marked("<|channel|>analysis<|message|>Hm")) == [Reasoning("Hm")]
    assert parser.feed(marked("<|end|><|start|>assistant<|channel|>comm")) == []
    (start,) = parser.feed(marked("entary to=functions.find<|message|>"))
    assert isinstance(start, ToolCallStart) and (start.index, start.name) == (0, "find")
    assert parser.feed('{"q": ') == [ToolCallArguments(0, '{"q":')]
    assert parser.feed('"a"}') == [ToolCallArguments(0, ' "a"}')]
    assert ChatOutput(ChatShape(harmony=Harmony({}, {}))).feed(marked(f"{FINAL}Yes")) == [Content("Yes", 7)]


def tokenizer() -> Tokenizer:
    made = Tokenizer.from_file(str(SPARK_PATH / "tokenizer.json"))
    made.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in HARMONY_MARKS])
    return made


def test_the_format_is_read_from_template_and_tokens():
    harmony = harmony_find(HARMONY, tokenizer())
    assert harmony and set(harmony.marks.values()) == set(MARKS)
    ends = {tokenizer().token_to_id("<|return|>"), tokenizer().token_to_id("<|call|>")}
    assert harmony.end_ids == ends
    assert harmony_find(QWEN, tokenizer()) is None
    assert harmony_find(HARMONY, Tokenizer.from_file(str(SPARK_PATH / "tokenizer.json"))) is None


@pytest.mark.parametrize(
    ("text", "reasoning"),
    [
        (f"{THOUGHT}{NEXT}{FINAL}Yes, indeed.", ["Hm, so."]),
        (f"{THOUGHT}{NEXT}{TO}{{}}<|call|>", ["Hm, so."]),
        (f"{THOUGHT}{NEXT}{THOUGHT}{NEXT}<|channel|>analysis<|message|>And", ["Hm, so.", "Hm, so.", "And"]),
        ("<|channel|>analysis to=functions.find<|message|>{}", []),
        ("<|channel|>analysis to=python<|message|>1 + 1<|call|>", ["1 + 1"]),
        (f"{FINAL}Yes", []),
        ("Yes, indeed.", []),
    ],
)
def test_the_tokens_of_thoughts_are_counted(text: str, reasoning: list[str]):
    made = tokenizer()
    harmony = harmony_find(HARMONY, made)
    assert harmony
    ids = made.encode(text, add_special_tokens=False).ids
    expected = sum(len(made.encode(one, add_special_tokens=False).ids) for one in reasoning)
    for size in (1, len(ids)):
        count = HarmonyCount(harmony, NAMES, lambda one: made.decode([one], skip_special_tokens=False))
        for start in range(0, len(ids), size):
            count.feed(ids[start : start + size])
        assert count.tokens == expected


def test_a_long_answer_takes_a_time_that_grows_with_its_length():
    """A hundred thousand characters in small pieces, also of what may be a header."""
    inner = json.dumps({"text": "word " * 20_000})
    text = marked(TO) + inner
    assert parse(*(text[at : at + 50] for at in range(0, len(text), 50))) == ("", "", [("find", inner)])
    blank = marked("<|channel|>") + " " * 100_000
    assert parse(*(blank[at : at + 50] for at in range(0, len(blank), 50)))[1] == blank[1:]
    assert parse(*marked("<|channel|>") * 50_000) == ("", "", [])
    blank = " " * 100_000
    ended = ("", "", [("find", f"{{{blank}}}")])
    assert parse(marked(TO), "{", *blank, "}") == ended


def test_an_answer_of_many_texts_tells_their_tokens_in_a_time_that_grows_with_its_length():
    text = marked("a<|constrain|>") * 20_000
    entries = [TokenEntry(0, None, at) for at in range(len(text))]
    choice = ChatChoice(ChatShape(harmony=Harmony({}, {})))
    found = [one.offset for _, inside in choice.feed(text, entries, final=True) for one in inside]
    assert found == list(range(0, len(text), 2))
