"""The parts of the platform that people outside know, and what a look at one of them finds."""

from collections.abc import Sequence
from dataclasses import dataclass

UP, LIMITED, STARTING, DOWN = "up", "limited", "starting", "down"
# Nobody looked lately: neither good nor bad.
UNKNOWN = "unknown"
API, CONSOLE, BILLING, CHECKS = "api", "console", "billing", "checks"
# Of each: what it is called, and what somebody outside has of it.
FIXED = {
    API: ("API", "Requests to /v1"),
    CONSOLE: ("Console", "These pages and the control API"),
    BILLING: ("Metering and billing", "Usage and balances are up to date"),
    CHECKS: ("Uploads and checks", "Adapters are taken in and checked"),
}
MODEL = "model:"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a component found; the note is for everybody, and names nobody."""

    key: str
    state: str
    note: str = ""


def model_key(model_id: str) -> str:
    """The key of a served model."""
    return f"{MODEL}{model_id}"


def worst_of(states: Sequence[str]) -> str:
    """One word for several components; those that nobody looked at count only where there are no others."""
    for state in (DOWN, STARTING, LIMITED, UP):
        if state in states:
            return state
    return UNKNOWN
