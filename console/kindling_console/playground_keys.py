"""Short-lived keys that the playground calls the gateway with, kept in this process's memory only."""

from datetime import datetime, timedelta
from threading import Lock

from kindling_console.access import Visitor
from kindling_platform.common.clock import now
from kindling_platform.keys.playground import playground_key_make

LIFETIME = timedelta(minutes=10)
# A key is checked when a request is admitted, so a little rest is enough for the longest answer.
SPARE = timedelta(minutes=1)
MAX_KEPT = 1000

_lock = Lock()
_kept: dict[tuple[str, str], tuple[str, datetime]] = {}


def playground_key(visitor: Visitor) -> str:
    """A key of the visitor's organisation for inference alone; the same one for some minutes."""
    owner = (visitor.org.id, visitor.user.id)
    with _lock:
        text, expires_at = _kept.get(owner, ("", None))
    if expires_at is not None and expires_at - now() > SPARE:
        return text
    # Without the lock, since it waits for the database: two at the same moment make two keys.
    expires_at = now() + LIFETIME
    _, text = playground_key_make(org=visitor.org, user=visitor.user, lifetime=LIFETIME, actor=visitor.actor)
    with _lock:
        if len(_kept) >= MAX_KEPT:
            _kept.clear()
        _kept[owner] = (text, expires_at)
    return text


def playground_key_forget(visitor: Visitor) -> None:
    """Drop a kept key, after the gateway refused it."""
    with _lock:
        _kept.pop((visitor.org.id, visitor.user.id), None)
