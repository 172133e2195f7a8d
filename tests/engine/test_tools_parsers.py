"""Tool calls out of an answer's text: every family's forms, in any pieces, and nothing lost when it is no call."""
# ruff: noqa: E501 - tables of texts read best unwrapped

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kindling_engine.server.tools.deltas import Content, Delta, ToolCallArguments, ToolCallStart
from kindling_engine.server.tools.hermes import HermesParser
from kindling_engine.server.tools.llama import LlamaParser
from kindling_engine.server.tools.mistral import MistralParser
from kindling_engine.server.tools.parser import ToolParser, call_id_make, short_call_id_make
from kindling_engine.server.tools.tagged import ARGUMENT_TAGS, FUNCTION_TAGS, TaggedParser
from kindling_examples import examples

NAMES = ("find", "get_time")
OFFERED: dict[str, dict[str, Any]] = {
    "find": {
        "type": "object",
        "properties": {
            "q": {"type": "string"},
            "n": {"type": "array"},
            "i": {"type": "integer"},
            "on": {"type": "boolean"},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "inner": {"$ref": "#/$defs/inner"},
        },
        "$defs": {"inner": {"type": "object"}},
    },
    "get_time": {},
}
PARSERS: dict[str, Callable[[], ToolParser]] = {
    "hermes": lambda: HermesParser(NAMES),
    "llama": lambda: LlamaParser(NAMES),
    "mistral": lambda: MistralParser(NAMES),
    "functions": lambda: TaggedParser(OFFERED, FUNCTION_TAGS),
    "arguments": lambda: TaggedParser(OFFERED, ARGUMENT_TAGS),
}
Told = tuple[str, list[tuple[str, str]]]


def told(deltas: list[Delta]) -> Told:
    """Content, and each call's name and arguments; also checks that deltas come in a lawful order."""
    content, calls = "", []
    for delta in deltas:
        match delta:
            case Content():
                content += delta.text
                assert delta.text
            case ToolCallStart():
                assert delta.index == len(calls)
                calls.append((delta.name, ""))
            case ToolCallArguments():
                assert delta.index == len(calls) - 1
                name, text = calls[-1]
                calls[-1] = (name, text + delta.text)
                assert delta.text
    return content, calls


def parse(family: str, *pieces: str) -> list[Delta]:
    parser = PARSERS[family]()
    out = [delta for piece in pieces for delta in parser.feed(piece)]
    return out + parser.feed("", final=True)


def parse_whole(family: str, text: str) -> list[Delta]:
    return PARSERS[family]().feed(text, final=True)


ARGUMENTS = '{"q": "a \\"b\\" {c}", "n": [1, {"x": null}], "f": -1.5e3}'
CALL = f'{{"name": "find", "arguments": {ARGUMENTS}}}'
PARAMETERS = CALL.replace("arguments", "parameters")


def functions(name: str, **arguments: str) -> str:
    said = "".join(f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in arguments.items())
    return f"<tool_call>\n<function={name}>\n{said}</function>\n</tool_call>"


def arguments(name: str, **values: str) -> str:
    said = "".join(
        f"<arg_key>{key}</arg_key>\n<arg_value>{text}</arg_value>\n" for key, text in values.items()
    )
    return f"<tool_call>{name}\n{said}</tool_call>"


TIME = '{"name": "get_time", "arguments": {}}'
FOUND, TIMED = ("find", ARGUMENTS), ("get_time", "{}")
H_CALL = f"<tool_call>\n{CALL}\n</tool_call>"
H_TIME = f"<tool_call>{TIME}</tool_call>"

CASES: list[tuple[str, str, Told]] = [
    # Hermes and Qwen.
    ("hermes", H_CALL, ("", [FOUND])),
    ("hermes", f"{H_CALL}\n{H_TIME}", ("", [FOUND, TIMED])),
    ("hermes", f"Let me look.\n\n{H_CALL}\n", ("Let me look.", [FOUND])),
    ("hermes", f"{H_TIME} So. {H_TIME}", (" So.", [TIMED, TIMED])),
    ("hermes", "Just text < with <tool signs>. \n", ("Just text < with <tool signs>. \n", [])),
    ("hermes", "", ("", [])),
    ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "find"}</tool_call>', ("", [("find", '{"a": 1}')])),
    ("hermes", '<tool_call>{"name": "get_time"}</tool_call>', ("", [TIMED])),
    ("hermes", '<tool_call>{"name": "get_time", "arguments": null}</tool_call>', ("", [TIMED])),
    ("hermes", '<tool_call>{"name": "find", "arguments": "{\\"a\\": 1}"}</tool_call>', ("", [("find", '{"a": 1}')])),
    ("hermes", '<tool_call>{"name": "find", "arguments": {"a": 1}, "id": 7}</tool_call>', ("", [("find", '{"a": 1}')])),
    ("hermes", '<tool_call>{"name": "find", "arguments": {"a": 1}</tool_call>', ("", [("find", '{"a": 1}')])),
    ("hermes", '<tool_call>{"name": "find", "arguments": {"a": 1}}', ("", [("find", '{"a": 1}')])),
    ("hermes", '<tool_call>{"name": "find", "arguments": {"a": 1}} x</tool_call>', (" x</tool_call>", [("find", '{"a": 1}')])),
    # Arguments come once.
    ("hermes", '<tool_call>{"name": "find", "parameters": {"a": 1}, "arguments": {"b": 2}}</tool_call>',
     (', "arguments": {"b": 2}}</tool_call>', [("find", '{"a": 1}')])),
    ("hermes", '<tool_call>{"arguments": {"b": 2}, "parameters": {}, "name": "find"}</tool_call>',
     ('<tool_call>{"arguments": {"b": 2}, "parameters": {}, "name": "find"}</tool_call>', [])),
    # No calls: every letter is content.
    *[("hermes", text, (text, [])) for text in (
        "<tool_call>", "<tool_call>\n", " <tool_call>oops</tool_call>\n", "<tool_call>[]</tool_call>",
        '<tool_call>{"name": 5, "arguments": {}}</tool_call>', '<tool_call>{"name": "", "arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>', "<tool_call>{}</tool_call>",
        '<tool_call>{"name": "find", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "find", "arguments": "x"}</tool_call>',
        '<tool_call>{"name": "fi', "<tool_call>{'name': 'find'}</tool_call>", '<tool_call>{"name": "\\ud800"}</tool_call>',
        "<tool_call>\n<function=find>\n</function>\n</tool_call> ", "</tool_call>", "<tool_cal",
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {"a": 1}, "name": "other"}</tool_call>',
    )],
    ("hermes", f"<tool_call>{H_TIME}", ("<tool_call>", [TIMED])),
    ("hermes", f"<tool_call>oops</tool_call> {H_TIME}", ("<tool_call>oops</tool_call>", [TIMED])),
    # What goes wrong inside arguments stays there.
    ("hermes", '<tool_call>{"name": "find", "arguments": {"a": oops}}</tool_call> Done',
     (" Done", [("find", '{"a": oops}}')])),
    ("hermes", '<tool_call>{"name": "find", "arguments": {"a": "un', ("", [("find", '{"a": "un')])),
    # Qwen 3 Coder and its like, and GLM: arguments between tags.
    *[case for family, write in (("functions", functions), ("arguments", arguments)) for case in [
        (family, write("get_time"), ("", [TIMED])),
        (family, f"So.\n\n{write('get_time')}\n{write('find', q='a')}\n", ("So.", [TIMED, ("find", '{"q": "a"}')])),
        (family, write("find", q='say "hi"\n  and <b>\t</b>\n', n='[1, {"a": null}]'),
         ("", [("find", '{"q": "say \\"hi\\"\\n  and <b>\\t</b>\\n", "n": [1, {"a": null}]}')])),
        (family, write("find", i="5", on="True", q="5", other="6"),
         ("", [("find", '{"i": 5, "on": true, "q": "5", "other": "6"}')])),
        (family, write("find", i="5.0", maybe="null"), ("", [("find", '{"i": 5, "maybe": null}')])),
        (family, write("find", i="five", maybe="5", inner='{"a": "é"}'),
         ("", [("find", '{"i": "five", "maybe": "5", "inner": {"a": "é"}}')])),
        (family, write("find", q="", n="[1", on="NaN"), ("", [("find", '{"q": "", "n": "[1", "on": "NaN"}')])),
        (family, write("other", q="a"), (write("other", q="a"), [])),
        (family, "<tool_call>", ("<tool_call>", [])),
        (family, "<tool_call>oops</tool_call> then", ("<tool_call>oops</tool_call> then", [])),
        (family, '<tool_call>{"name": "find", "arguments": {}}</tool_call>',
         ('<tool_call>{"name": "find", "arguments": {}}</tool_call>', [])),
    ]],
    ("functions", "<tool_call><function=find><parameter=q>a</parameter></function></tool_call> b", (" b", [("find", '{"q": "a"}')])),
    ("functions", "<tool_call><function=find><parameter=q>\n\n  a\n\n</parameter></function></tool_call>", ("", [("find", '{"q": "\\n  a\\n"}')])),
    ("functions", "<tool_call>\n<function=find>\n<parameter=q>\na\n</parameter>\n</tool_call>", ("", [("find", '{"q": "a"}')])),
    ("functions", "<tool_call>\n<function=find>\n</function>", ("", [("find", "{}")])),
    ("functions", "So. <function=find>\n<parameter=q>\na\n</parameter>\n</function>\n</tool_call> b", ("So. b", [("find", '{"q": "a"}')])),
    ("functions", "<function=find>\n</function>\n<function=get_time>\n</function>", ("", [("find", "{}"), TIMED])),
    ("functions", "<function=other>\n</function>", ("<function=other>\n</function>", [])),
    ("functions", "A <function and <function=", ("A <function and <function=", [])),
    ("functions", "<tool_call><function=find>what<parameter=q></function></tool_call> Done",
     (" Done", [("find", "{what<parameter=q></function>")])),
    ("functions", "<tool_call>\n<function=find>\n<parameter=q>\nun", ("", [("find", '{"q": "un')])),
    ("functions", "<tool_call>\n<function=find>\n<parameter=q>\na\n</par", ("", [("find", '{"q": "a')])),
    ("functions", "<tool_call>\n<function=find>\n<parameter=i>\n5", ("", [("find", '{"i": ')])),
    ("arguments", "<tool_call>find<arg_key>q</arg_key><arg_value>a</arg_value></tool_call>", ("", [("find", '{"q": "a"}')])),
    ("arguments", "<tool_call>\nfind\n<arg_key>q</arg_key>\n<arg_value> a\n</arg_value>\n</tool_call>", ("", [("find", '{"q": " a\\n"}')])),
    ("arguments", "<tool_call>find\n<arg_key>q</arg_key>a</tool_call>", ("", [("find", "{<arg_key>q</arg_key>a")])),
    # Llama.
    ("llama", PARAMETERS, ("", [FOUND])),
    ("llama", f"<|python_tag|>{PARAMETERS}", ("", [FOUND])),
    ("llama", f"\n{PARAMETERS}; {TIME}\n", ("", [FOUND, TIMED])),
    ("llama", '{"type": "function", "name": "get_time", "parameters": {}}', ("", [TIMED])),
    ("llama", '{"name": "find", "parameters": {"a": 1} ', ("", [("find", '{"a": 1}')])),
    ("llama", f"{TIME} and more", (" and more", [TIMED])),
    ("llama", f'{TIME};{{"x": 1}} ', (';{"x": 1}', [TIMED])),
    ("llama", '{"name": "find", "parameters": {"a": no', ("", [("find", '{"a": no')])),
    *[("llama", text, (text, [])) for text in (
        "", "Hi {", '{"name": "Anna", "parameters": {}}', '{"answer": 5, "name": "find"} ', '{"name": "find"',
        '<|python_tag|>find.call(q="x")', "<|python", f"See {TIME}", "{ } ", '{"name": "find", "name": "find"}', "{1: 2}",
    )],
    # Mistral.
    ("mistral", f"[TOOL_CALLS] [{CALL}]", ("", [FOUND])),
    ("mistral", f"[TOOL_CALLS][{CALL}, {TIME}]\n", ("", [FOUND, TIMED])),
    ("mistral", f"[TOOL_CALLS]{CALL}", ("", [FOUND])),
    ("mistral", f"Hm. [TOOL_CALLS]find[ARGS]{ARGUMENTS}", ("Hm.", [FOUND])),
    ("mistral", f"[TOOL_CALLS]find[ARGS]{ARGUMENTS}[TOOL_CALLS]get_time[ARGS]{{}}", ("", [FOUND, TIMED])),
    ("mistral", f"[TOOL_CALLS]find{ARGUMENTS}", ("", [FOUND])),
    ("mistral", f"[TOOL_CALLS]find[CALL_ID]ab3[ARGS]{ARGUMENTS}", ("", [FOUND])),
    ("mistral", f"[TOOL_CALLS] [{TIME}", ("", [TIMED])),
    ("mistral", f"[TOOL_CALLS] [{TIME}, 5]", (", 5]", [TIMED])),
    ("mistral", '[TOOL_CALLS]find[ARGS]{"a": oops}[TOOL_CALLS]get_time[ARGS]{}', ("", [("find", '{"a": oops}'), TIMED])),
    ("mistral", '[TOOL_CALLS][{"name": "find", "arguments": {"a": oops}}]', ("", [("find", '{"a": oops}}]')])),
    ("mistral", "[TOOL_CALLS]find[ARGS]{} then", (" then", [("find", "{}")])),
    ("mistral", "[TOOL_CALLS]other[ARGS]{}[TOOL_CALLS]get_time[ARGS]{}", ("[TOOL_CALLS]other[ARGS]{}", [TIMED])),
    *[("mistral", text, (text, [])) for text in (
        "", "[1] [TOOL", "[TOOL_CALLS]", "[TOOL_CALLS] []", "[TOOL_CALLS] [5]", "[TOOL_CALLS]find", "[TOOL_CALLS]find[ARGS]",
        "[TOOL_CALLS]find[ARGS] x", "[TOOL_CALLS]find now", '[TOOL_CALLS] [{"name": 5}]', "[TOOL_CALLS]" + "n" * 129 + "{}",
        '[TOOL_CALLS] [{"name": "other", "arguments": {}}]', "[TOOL_CALLS]other[ARGS]{}", "[TOOL_CALLS]fin{}",
    )],
]  # fmt: skip


@pytest.mark.parametrize(("family", "text", "expected"), CASES, ids=range(len(CASES)))
def test_what_a_text_says(family: str, text: str, expected: Told):
    assert told(parse_whole(family, text)) == expected
    assert told(parse(family, *text)) == expected
    for cut in range(len(text)):
        assert told(parse(family, text[:cut], text[cut:])) == expected


@pytest.mark.parametrize(
    ("family", "text", "unfinished"),
    [
        ("hermes", "Text.", False),
        ("hermes", H_CALL, False),
        ("hermes", '<tool_call>{"name": "find", "arguments": {"a": "b', True),
        ("hermes", '<tool_call>{"name": "find", "arguments": {"a": 1}', False),
        ("hermes", f'{H_CALL}<tool_call>{{"name": "find", "arguments": {{', True),
        ("llama", '{"name": "find", "parameters": {"a": 1}', False),
        ("llama", '{"name": "find", "parameters": {"a": 1', True),
        ("mistral", f"[TOOL_CALLS] [{TIME}", False),
        ("mistral", '[TOOL_CALLS] [{"name": "find", "arguments": {"a": ', True),
        ("mistral", '[TOOL_CALLS]find[ARGS]{"a": "', True),
        ("mistral", '[TOOL_CALLS]find[ARGS]{"a": "b"}', False),
        ("mistral", '[TOOL_CALLS]find[ARGS]{"a": oops}', False),
        ("functions", "<tool_call><function=find>", True),
        ("functions", "<tool_call><function=find><parameter=q>a", True),
        ("functions", "<tool_call><function=find><parameter=q>a</parameter></function>", False),
        ("functions", "<tool_call><function=find>oops</tool_call>", False),
        ("arguments", arguments("find", q="a").removesuffix("</tool_call>"), False),
        ("arguments", arguments("find", q="a").removesuffix("</arg_value>\n</tool_call>"), True),
        ("arguments", arguments("find", q="a"), False),
    ],
)
def test_a_call_is_unfinished_while_its_arguments_are(family: str, text: str, unfinished: bool):
    for pieces in ([text], list(text)):
        parser = PARSERS[family]()
        for piece in pieces:
            parser.feed(piece)
        parser.feed("", final=True)
        assert parser.unfinished is unfinished


PIECES = st.sampled_from([
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", "{", "}", "[", "]", ",", ":",
    '"name"', '"arguments"', '"parameters"', '"find"', "find", ": ", ", ", "\n", " ", ";", '"', "\\", "5", "-", "null",
    "text", "<", CALL, TIME, PARAMETERS, ARGUMENTS, '{"name": "find", "arguments": ', H_CALL, "é", "<function=find>", "</function>", "<parameter=q>", "<parameter=i>", "</parameter>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", functions("find", q="a\n", i="5"), arguments("find", i="x"),
])  # fmt: skip


@settings(max_examples=examples(400), deadline=None)
@given(st.sampled_from(sorted(PARSERS)), st.lists(PIECES, max_size=12), st.data())
@example("hermes", [H_CALL, " ", "<", "text"], None)
def test_where_the_text_is_cut_changes_nothing(family: str, parts: list[str], data: Any):
    text = "".join(parts)
    expected = told(parse_whole(family, text))
    assert told(parse(family, *text)) == expected
    assert told(parse(family, *parts)) == expected
    if data and text:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert told(parse(family, *pieces)) == expected
    if not expected[1]:
        assert expected[0] == text


@settings(max_examples=examples(200), deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=3,
    ),
    st.booleans(),
)
def test_arguments_come_out_letter_by_letter(arguments: dict[str, Any], plain: bool):
    text = json.dumps(arguments, ensure_ascii=plain, indent=1 if plain else None)
    call = f'{{"name": "find", "arguments": {text}}}'
    for family, answer in (
        ("hermes", f"<tool_call>{call}</tool_call>"),
        ("llama", call),
        ("mistral", f"[TOOL_CALLS][{call}]"),
        ("mistral", f"[TOOL_CALLS]find[ARGS]{text}"),
    ):
        assert told(parse(family, *answer)) == ("", [("find", text)])


def test_a_call_streams_while_it_arrives():
    parser = HermesParser(NAMES)
    assert parser.feed('On it. <tool_call>{"name": "find", "argu') == [Content("On it.")]
    (start, first) = parser.feed('ments": {"q": "a')
    assert isinstance(start, ToolCallStart)
    assert (start.index, start.name) == (0, "find")
    assert first == ToolCallArguments(0, '{"q": "a')
    assert parser.feed('b"}') == [ToolCallArguments(0, 'b"}')]
    assert parser.feed("}\n</tool_") == []
    assert parser.feed("call>\n", final=True) == []


def test_no_mark_is_ever_shown_by_half():
    parser = HermesParser(NAMES)
    shown = "".join(
        delta.text for char in "a <tool_cal" for delta in parser.feed(char) if isinstance(delta, Content)
    )
    assert shown == "a"
    assert parser.feed("m", final=True) == [Content(" <tool_calm", 1)]


@pytest.mark.parametrize(
    ("family", "text", "shown"),
    [
        ("hermes", "So <tool_call", "So"),
        ("hermes", "So\n<tool_call>", "So"),
        ("hermes", '<tool_call>\n{"name": "fin', ""),
        ("hermes", "1 <", "1 <"),
        ("hermes", "<tool_call>oops", "<tool_call>oops"),
        ("mistral", "So [TOOL_", "So"),
        ("mistral", "[TOOL_CALLS]", ""),
        ("mistral", "[TOOL_CALLS]fi", ""),
        ("mistral", '[TOOL_CALLS] [{"na', ""),
        ("mistral", "a[", "a["),
        ("functions", "So\n<tool_call>\n<func", "So"),
        ("functions", "<tool_call>\n<function=fin", ""),
        ("arguments", "<tool_call>fin", ""),
        ("llama", "<|python", ""),
        ("llama", '<|python_tag|>{"name": "fi', ""),
        ("llama", "<", "<"),
        ("llama", '{"name": "fi', '{"name": "fi'),
    ],
)
def test_what_a_cut_answer_had_begun_to_call_is_not_shown(family: str, text: str, shown: str):
    for cut in range(len(text) + 1):
        parser = PARSERS[family]()
        deltas = parser.feed(text[:cut]) + parser.feed(text[cut:]) + parser.feed("", final=True, cut=True)
        assert told(deltas) == (shown, [])


def test_a_list_of_calls_that_was_cut_shows_no_comma():
    parser = MistralParser(NAMES)
    assert told(parser.feed(f"[TOOL_CALLS] [{TIME}, ", final=True, cut=True)) == ("", [TIMED])


def test_content_says_where_it_stood():
    text = f"a{H_TIME} b <tool_call>x"
    for delta in parse("hermes", *text):
        if isinstance(delta, Content):
            assert text[delta.start :].startswith(delta.text)


def test_ids_differ_and_have_their_families_form():
    ids = {call_id_make() for _ in range(100)}
    assert len(ids) == 100
    assert all(one.startswith("call_") and len(one) == 29 for one in ids)
    short = {short_call_id_make() for _ in range(100)}
    assert len(short) == 100
    assert all(len(one) == 9 and one.isalnum() for one in short)


@pytest.mark.parametrize("family", sorted(PARSERS))
def test_a_long_answer_takes_a_time_that_grows_with_its_length(family: str):
    """A hundred thousand characters of arguments in small pieces."""
    inner = json.dumps({"text": "word " * 20_000})
    text = {
        "hermes": f'<tool_call>{{"name": "find", "arguments": {inner}}}</tool_call>',
        "llama": f'{{"name": "find", "parameters": {inner}}}',
        "mistral": f"[TOOL_CALLS]find[ARGS]{inner}",
        "functions": functions("find", text="word " * 20_000),
        "arguments": arguments("find", text="word " * 20_000),
    }[family]
    assert told(parse(family, *(text[at : at + 50] for at in range(0, len(text), 50)))) == (
        "",
        [("find", inner)],
    )
