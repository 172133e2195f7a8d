"""Who does something: a person, a key, or the platform itself."""

from kindling_platform.accounts.models import User
from kindling_platform.common.actors import SYSTEM, Actor

__all__ = ["SYSTEM", "Actor", "user_actor"]


def user_actor(user: User, *, ip: str | None = None) -> Actor:
    """The actor for what a signed-in person does."""
    return Actor(id=user.id, label=user.email, ip=ip)
