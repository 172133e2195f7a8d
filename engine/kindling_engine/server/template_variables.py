"""Variables that a request hands to the chat template."""

import json
import re
from typing import Any

from kindling_engine.server.chat_template import OWN_NAMES
from kindling_engine.server.errors import invalid_value
from kindling_engine.server.fields import Fields
from kindling_engine.server.template_files import TOKEN_NAMES

MAX_VARIABLES = 64
MAX_CHARS = 16 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_TAKEN = OWN_NAMES | {*TOKEN_NAMES, "chat_template", "tool_choice"}


def template_variables_read(fields: Fields) -> dict[str, Any]:
    """The object in chat_template_kwargs. Errors: `invalid_value`, also for names that the rendering itself sets."""
    field = "chat_template_kwargs"
    given = fields.object(field) or {}
    if len(given) > MAX_VARIABLES:
        raise invalid_value(field, f"{field} may hold at most {MAX_VARIABLES} variables.")
    for name in given:
        if not _NAME.fullmatch(name):
            raise invalid_value(field, f"{field} may hold names of letters, digits and underscores only.")
        if name in _TAKEN:
            raise invalid_value(f"{field}.{name}", f"{field} may not set {name}.")
    try:
        size = len(json.dumps(given, ensure_ascii=False).encode())
    except (RecursionError, UnicodeEncodeError):
        raise invalid_value(field, f"{field} is nested too deeply or holds half a surrogate pair.") from None
    if size > MAX_CHARS:
        raise invalid_value(field, f"{field} may have at most {MAX_CHARS // 1024} KiB as JSON.")
    return given
