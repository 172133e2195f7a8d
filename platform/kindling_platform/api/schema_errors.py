"""Says in the OpenAPI document what every operation answers when it refuses."""

from typing import Any

TEXT = {"type": "string"}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": TEXT | {"description": "A sentence for people."},
                "type": TEXT,
                "param": TEXT | {"nullable": True, "description": "The field or parameter that it is about."},
                "code": TEXT | {"description": "Stable: programs go by this."},
                "details": {"description": "More, where there is more to say."},
                "doc_url": TEXT | {"description": "Where the code is explained."},
            },
        }
    },
}
REFUSED = {
    "description": "Refused; `code` says why.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


def errors_add(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A hook of the generator's: each operation refuses with the one shape of all errors."""
    result["components"].setdefault("schemas", {})["Error"] = ERROR
    for path in result["paths"].values():
        for operation in path.values():
            operation["responses"].setdefault("4XX", REFUSED)
    return result
