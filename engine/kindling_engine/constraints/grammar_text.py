"""From what a client asks for to the grammar library's input, checked without a tokenizer."""

import json
import re
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.library import byte_tokenizer, limits, matcher
from kindling_engine.constraints.schema import schema_prepare
from kindling_engine.constraints.schema_blame import schema_blame
from kindling_engine.constraints.schema_oneof import exclusive_rewrite, nodes_list

KINDS = ("json_object", "json_schema", "regex", "lark")
MAX_TEXT_BYTES = 256 * 1024
MOST_PROPERTIES = 2_000
MOST_PATTERNS = 500

# Between the parts of a JSON text: nothing, a space, or a line break with an indentation. Without a bound a
# model may write white space for ever.
WHITESPACE = r"[ ]|\n(?:[ ]{0,64}|\t{0,16})"
_WITHOUT_TOKENIZER = "no tokenizer - can't validate <["
_LARK_START = re.compile(r"^[^\S\n]*[?!]?start[^\S\n]*:", re.MULTILINE)
# Texts, comments and expressions are passed over, each to its end or to that of its line, so that no place is looked at
# twice; what is left of a grammar names no attribute but as one.
_LARK_STOP = re.compile(r'"(?:[^"\\\n]|\\.)*"?|//[^\n]*|/(?:[^/\\\n]|\\.)*/?|\b(stop)[ \t]*=')
_FROM_SCHEMA = ("json_object", "json_schema")
_ONE_OF = "oneOf constraints"
JSON_OBJECT = '{"type":"object"}'


def grammar_text(kind: str, text: str) -> str:
    """The library's form of a constraint. Raises ConstraintError for anything that is not kept in full."""
    if kind not in KINDS:
        raise ConstraintError("invalid_schema", f"The constraint must be one of {', '.join(KINDS)}.")
    if len(text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:
        raise ConstraintError(
            "invalid_schema", f"The {_NAMES[kind]} is larger than {MAX_TEXT_BYTES // 1024} KiB."
        )
    if kind in _FROM_SCHEMA:
        return _schema_text(JSON_OBJECT if kind == "json_object" else text)
    if kind == "lark" and "::=" in text and not _LARK_START.search(text):
        raise ConstraintError(
            "invalid_schema", "The grammar is written in GBNF; write it in Lark, with a rule named start."
        )
    if kind == "lark" and any(found[1] for found in _LARK_STOP.finditer(text)):
        # Where such a part ends the library takes bytes back, which a text that has been sent cannot.
        raise ConstraintError(
            "unsupported_schema", "The grammar cannot be kept in full: stop= is not supported; suffix= is."
        )
    make = matcher().grammar_from_regex if kind == "regex" else matcher().grammar_from_lark
    built = str(make(text))
    failed, messages = matcher().validate_grammar_with_warnings(built, None, limits=limits())
    if failed:
        raise ConstraintError(
            "invalid_schema", f"The {_NAMES[kind]} is not valid: {str(messages[0]).strip()[:500]}"
        )
    # Tokens named by their ids are checked where the tokenizer is.
    messages = [one for one in messages if _WITHOUT_TOKENIZER not in str(one)]
    if messages:
        raise ConstraintError(
            "unsupported_schema", f"The {_NAMES[kind]} cannot be kept in full: {messages[0]}"
        )
    return built


_NAMES = {"json_object": "schema", "json_schema": "schema", "regex": "expression", "lark": "grammar"}


def expression_lark(text: str) -> str:
    """A regular expression as a Lark grammar."""
    built = json.loads(matcher().grammar_from_regex(text))
    return str(built["grammars"][0]["lark_grammar"])


def schema_settle(text: str) -> dict[str, Any]:
    """A schema in the form that the library keeps in full. Raises ConstraintError for one that it does not."""
    schema = schema_prepare(text)
    size_check(schema)
    message = _schema_message(schema)
    if message.startswith(_ONE_OF):
        exclusive_rewrite(schema)
        message = _schema_message(schema)
    if message.startswith("Unsatisfiable schema"):
        raise ConstraintError("invalid_schema", f"No JSON value can match the schema: {message}")
    if message:
        raise ConstraintError("unsupported_schema", schema_blame(schema, message, _schema_message))
    return schema


def _schema_text(text: str) -> str:
    built = _schema_built(schema_settle(text))
    if matcher()(byte_tokenizer(), built, log_level=0, limits=limits()).is_error():
        raise ConstraintError(
            "unsupported_schema", "The schema is too complex: its numbers or expressions take too long."
        )
    return built


def size_check(schema: dict[str, Any]) -> None:
    """What takes the library seconds to build; the optional properties of one object do with their square."""
    sizes = {
        "properties": sum(
            len(node["properties"])
            for _, node in nodes_list(schema, "properties")
            if isinstance(node["properties"], dict)
        ),
        "patterns and formats": sum(1 for _, node in nodes_list(schema, "pattern", leaves=True)),
    }
    for name, most in (("properties", MOST_PROPERTIES), ("patterns and formats", MOST_PATTERNS)):
        if sizes[name] > most:
            raise ConstraintError(
                "unsupported_schema", f"The schema has {sizes[name]:,} {name}; {most:,} are supported."
            )


def _schema_built(schema: dict[str, Any]) -> str:
    written = json.dumps(schema, ensure_ascii=False)
    return str(matcher().grammar_from_json_schema(written, overrides={"whitespace_pattern": WHITESPACE}))


def _schema_message(schema: dict[str, Any]) -> str:
    """What the library has against a schema, in one line; nothing if it keeps it in full."""
    _, messages = matcher().validate_grammar_with_warnings(_schema_built(schema), None, limits=limits())
    return str(messages[0]).strip().split("\n", 1)[0][:300] if messages else ""
