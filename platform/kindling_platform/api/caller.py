"""Who calls the control API, for which organisation, and what they may do."""

from dataclasses import dataclass, field

from rest_framework.request import Request

from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.accounts.roles import can
from kindling_platform.common.actors import Actor
from kindling_platform.keys.models import ApiKey

READ_SCOPES = {"read", "manage"}


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in member, or a key with its scopes; exactly one of `membership` and `key` is there."""

    org: Organisation
    actor: Actor
    membership: Membership | None = None
    key: ApiKey | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)

    def may(self, action: str) -> bool:
        """Whether the role of a member, or the scopes of a key, allow an action such as `keys.write`."""
        if self.key is None:
            return can(self.membership, action)
        return bool(self.scopes & READ_SCOPES) if action.endswith(".read") else "manage" in self.scopes


def caller_of(request: Request) -> Caller:
    """The caller that authentication found."""
    caller = request.auth
    if not isinstance(caller, Caller):
        raise TypeError("this view was reached without a caller")
    return caller
