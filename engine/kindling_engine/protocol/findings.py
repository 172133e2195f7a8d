"""What a check of an adapter found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of an adapter: level is pass, warn or fail; fix says what the user can do."""

    check: str
    level: str
    message: str
    fix: str = ""
