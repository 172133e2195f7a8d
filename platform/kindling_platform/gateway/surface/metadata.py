"""Names and texts that a client attaches to what it asks for."""

from kindling_platform.gateway.surface.fields import Fields, invalid_value

MAX_PAIRS, MAX_NAME, MAX_TEXT = 16, 64, 512


def metadata_read(fields: Fields) -> dict[str, str]:
    """The pairs in `metadata`; none when absent. Errors: 400 `invalid_value`."""
    given = fields.take("metadata")
    if given is None:
        return {}
    fine = isinstance(given, dict) and len(given) <= MAX_PAIRS
    if not fine or not all(
        len(name) <= MAX_NAME and isinstance(value, str) and len(value) <= MAX_TEXT
        for name, value in given.items()
    ):
        what = f"{MAX_PAIRS} pairs of a name of {MAX_NAME} and a string of {MAX_TEXT} characters"
        raise invalid_value("metadata", f"metadata has to be up to {what}.")
    return dict(given)
