"""From what a client asks for to the grammar library's input, checked without a tokenizer."""

import json
from functools import lru_cache
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.schema import schema_prepare

KINDS = ("json_object", "json_schema", "regex", "lark")
MAX_TEXT_BYTES = 256 * 1024

# Between the parts of a JSON text: nothing, a space, or a line break with an indentation. Without a bound a
# model may write white space for ever.
WHITESPACE = r"[ ]|\n(?:[ ]{0,64}|\t{0,16})"
_WITHOUT_TOKENIZER = "no tokenizer - can't validate <["
JSON_OBJECT = '{"type":"object"}'


def grammar_text(kind: str, text: str) -> str:
    """The library's form of a constraint. Raises ConstraintError for anything that is not kept in full."""
    if kind not in KINDS:
        raise ConstraintError("invalid_schema", f"The constraint must be one of {', '.join(KINDS)}.")
    if len(text.encode(errors="surrogatepass")) > MAX_TEXT_BYTES:
        raise ConstraintError(
            "invalid_schema", f"The {_NAMES[kind]} is larger than {MAX_TEXT_BYTES // 1024} KiB."
        )
    built = _built(kind, text)
    failed, messages = matcher().validate_grammar_with_warnings(built, None, limits=limits())
    if failed:
        raise _refusal(kind, str(messages[0]))
    # Tokens named by their ids are checked where the tokenizer is.
    messages = [one for one in messages if _WITHOUT_TOKENIZER not in str(one)]
    if messages:
        raise ConstraintError(
            "unsupported_schema", f"The {_NAMES[kind]} cannot be kept in full: {messages[0]}"
        )
    return built


def matcher() -> Any:
    """The library's matcher class, imported on first use."""
    from llguidance import LLMatcher

    return LLMatcher


@lru_cache(maxsize=1)
def limits() -> Any:
    """Bounds on what one grammar may cost: about 20 ms for the first lexer, 10 ms for a mask."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=150_000,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        verbose_errors=False,
    )


_NAMES = {"json_object": "schema", "json_schema": "schema", "regex": "expression", "lark": "grammar"}


def _built(kind: str, text: str) -> str:
    if kind == "regex":
        return str(matcher().grammar_from_regex(text))
    if kind == "lark":
        return str(matcher().grammar_from_lark(text))
    schema = schema_prepare(JSON_OBJECT if kind == "json_object" else text)
    return str(
        matcher().grammar_from_json_schema(
            json.dumps(schema, ensure_ascii=False), overrides={"whitespace_pattern": WHITESPACE}
        )
    )


def _refusal(kind: str, message: str) -> ConstraintError:
    first = message.strip().split("\n", 1)[0]
    if kind != "json_schema":
        return ConstraintError("invalid_schema", f"The {_NAMES[kind]} is not valid: {message.strip()[:500]}")
    if first.startswith("Unsatisfiable schema"):
        return ConstraintError("invalid_schema", f"No JSON value can match the schema: {first[:300]}")
    return ConstraintError("unsupported_schema", f"The schema is not supported: {first[:300]}")
