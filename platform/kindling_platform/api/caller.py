"""Who calls the control API, for which organisation, and what they may do."""

from dataclasses import dataclass, field

from rest_framework.request import Request

from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.accounts.roles import OPERATOR, role_can
from kindling_platform.accounts.team import OWNER
from kindling_platform.common.actors import Actor
from kindling_platform.keys.models import OPERATOR_SCOPE, ApiKey

READ_SCOPES = {"read", "manage"}
# What is done to the whole installation: `operator.read` and `operator.write`.
OPERATOR_ACTIONS = f"{OPERATOR}."


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in member, or a key with its scopes; exactly one of `membership` and `key` is there.

    `role` is the member's, or bounds the key (`keys.rights`). `hidden` is what is refused although the role allows it.
    """

    org: Organisation
    actor: Actor
    role: str
    membership: Membership | None = None
    key: ApiKey | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)
    hidden: frozenset[str] = field(default_factory=frozenset)

    def may(self, action: str) -> bool:
        """Whether the role, and for a key its scopes as well, allow an action such as `keys.write`."""
        if action in self.hidden:
            return False
        if action.startswith(OPERATOR_ACTIONS):
            return self.may_operate and not self.lacks(action)
        return role_can(self.role, self.org, action) and not self.lacks(action)

    @property
    def is_owner(self) -> bool:
        """Whether the caller is an owner in person; keys are nobody's in this."""
        return self.membership is not None and self.membership.role == OWNER

    @property
    def may_operate(self) -> bool:
        """Whether the caller acts for whoever runs this installation."""
        return role_can(self.role, self.org, OPERATOR) and (self.key is None or OPERATOR_SCOPE in self.scopes)

    def lacks(self, action: str) -> str:
        """The scope that a key needs for an action and has not, "" when it has all; members need none."""
        if self.key is None:
            return ""
        if action.startswith(OPERATOR_ACTIONS) and OPERATOR_SCOPE not in self.scopes:
            return OPERATOR_SCOPE
        if action.endswith(".read"):
            return "" if self.scopes & READ_SCOPES else "read"
        return "" if "manage" in self.scopes else "manage"


def caller_of(request: Request) -> Caller:
    """The caller that authentication found."""
    caller = request.auth
    if not isinstance(caller, Caller):
        raise TypeError("this view was reached without a caller")
    return caller
