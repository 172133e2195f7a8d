"""String formats: which are enforced, and how.

A format that no draft of JSON Schema defines says nothing that could be checked; the specification makes it a
remark, and so do we.
"""

# The grammar library's own expressions for these hold.
BUILT_IN = {"duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"}

_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][48]|[13579][26]|[2468]0)00)"
_DATE = (
    "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
# A leap second exists at midnight UTC only; the one way to write it here is with Z.
_TIME = (
    r"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
    r"|23:59:60(?:\.[0-9]{1,9})?[zZ])"
)
_POINTER = "(?:/(?:[^/~]|~[01])*)*"

# The library's expressions for dates allow 29 February in every year, and for times a leap second at any.
OURS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}[tT]{_TIME}",
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
}

# Defined by JSON Schema and not enforced.
REFUSED = {
    *("idn-email", "idn-hostname", "iri", "iri-reference"),
    *("regex", "uri-reference", "uri-template"),
}


def format_pattern(name: str) -> str | None:
    """An expression that is searched for in the string and finds exactly the format, if we have one of our own."""
    expression = OURS.get(name)
    return None if expression is None else f"^(?:{expression})$"
