"""Who does something, as the audit log names them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """A user, a key or the platform itself; `label` is what people read."""

    id: str
    label: str
    ip: str | None = None


SYSTEM = Actor(id="", label="system")
PROVIDER_LABEL = "payment provider"
