"""Where a change comes from: the request that is being answered, and whoever makes it once they are known."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from kindling_platform.common.actors import SYSTEM, Actor


@dataclass(slots=True)
class Origin:
    """One request and its maker. It is changed in place, since threads see copies of the context and not of this."""

    request_id: str = ""
    actor: Actor = SYSTEM


_origin: ContextVar[Origin | None] = ContextVar("kindling_origin", default=None)


def origin_get() -> Origin:
    """The request at hand; outside of one the platform itself acts."""
    return _origin.get() or Origin()


def origin_actor_set(actor: Actor) -> None:
    """Say who makes the request at hand; without a request nothing is remembered."""
    origin = _origin.get()
    if origin is not None:
        origin.actor = actor


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """What billing does inside is done by `actor`, whether or not a request is at hand."""
    with origin_begun(Origin(origin_get().request_id, actor)):
        yield


@contextmanager
def origin_begun(origin: Origin) -> Iterator[Origin]:
    """Everything inside comes from `origin`."""
    token = _origin.set(origin)
    try:
        yield origin
    finally:
        _origin.reset(token)
