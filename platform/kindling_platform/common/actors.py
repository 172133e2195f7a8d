"""Who does something, as the audit log names them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """A user, a key or the platform itself; `label` is what people read, `maker_id` the user who made the key."""

    id: str
    label: str
    ip: str | None = None
    maker_id: str = ""

    @property
    def user_id(self) -> str:
        """The person who does it, or whose key does; no user's id where that is nobody."""
        return self.maker_id or self.id


SYSTEM = Actor(id="", label="system")
PROVIDER_LABEL = "payment provider"
