"""What the rule `for_org` needs to know about an organisation."""

from typing import Protocol


class HasId(Protocol):
    """Anything with an id, above all an organisation."""

    @property
    def id(self) -> str: ...
