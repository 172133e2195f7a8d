"""JSON schemas made ready for the grammar library, or refused by keyword before anything is generated."""

import json
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.schema_walk import KeywordError, SchemaWalk

MAX_SCHEMA_BYTES = 256 * 1024
# Levels of JSON; a level of the schema takes two.
MAX_DEPTH = 128


def schema_prepare(text: str) -> dict[str, Any]:
    """A schema that the library keeps in full. Raises ConstraintError ``invalid_schema`` or
    ``unsupported_schema``; the message names the first keyword at fault and its place.
    """
    walk = SchemaWalk(_parsed(text))
    prepared = walk.run()
    for fault in walk.found():
        raise fault
    return {"allOf": [prepared]} if isinstance(prepared, bool) else prepared


def schema_loosen(text: str) -> tuple[dict[str, Any], list[str]]:
    """A schema, which must be an object, without the keywords that are not kept, and their names.

    Raises ConstraintError ``invalid_schema``, and ``unsupported_schema`` where leaving them out could forbid what the
    schema allows.
    """
    schema: dict[str, Any] = _parsed(text)
    walk = SchemaWalk(schema)
    walk.run()
    names = set()
    for fault in list(walk.found()):
        # Without its expressions, a schema that is closed to other names would be closed to theirs.
        if not isinstance(fault, KeywordError) or walk.negates or fault.keyword == "patternProperties":
            raise fault
        fault.holder.pop(fault.keyword, None)
        names.add(fault.keyword)
    return schema, sorted(names)


def _parsed(text: str) -> Any:
    if len(text.encode(errors="surrogatepass")) > MAX_SCHEMA_BYTES:
        raise _invalid(f"The schema is larger than {MAX_SCHEMA_BYTES // 1024} KiB; make it smaller.")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise _invalid("The schema is not valid JSON.") from None
    if not isinstance(schema, dict | bool):
        raise _invalid("A schema must be a JSON object, true or false.")
    if _depth(schema) > MAX_DEPTH:
        raise _invalid(f"The schema is nested more than {MAX_DEPTH} levels deep.")
    try:
        json.dumps(schema, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _invalid("The schema has half a surrogate pair in a text, which is no character.") from None
    return schema


def _depth(node: Any) -> int:
    deepest, waiting = 0, [(node, 1)]
    while waiting:
        one, depth = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(one, dict | list):
            waiting.extend((inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one))
    return deepest


def _invalid(message: str) -> ConstraintError:
    return ConstraintError("invalid_schema", message)
