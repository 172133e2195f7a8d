"""One table says what each role may do, for the console and the API alike."""

from typing import Protocol

READ = frozenset(
    {
        "models.read",
        "adapters.read",
        "keys.read",
        "usage.read",
        "billing.read",
        "deployments.read",
        "team.read",
    }
)
BUILD = frozenset(
    {
        "adapters.write",
        "keys.write",
        "deployments.write",
        "playground.use",
        "conversations.write",
        "responses.write",
        "prompts.open",
        "batches.write",
        "webhooks.read",
    }
)
# `billing.pay` settles what is owed; unlike what is called write, it goes on while an organisation is suspended.
GOVERN = frozenset(
    {"activity.read", "billing.write", "billing.pay", "settings.write", "team.write", "webhooks.write"}
)
# What nobody undoes is the owners' alone.
END = frozenset({"organisation.delete"})
ROLE_ACTIONS: dict[str, frozenset[str]] = {
    "owner": READ | BUILD | GOVERN | END,
    "admin": READ | BUILD | GOVERN,
    "developer": READ | BUILD,
    "viewer": READ,
    "billing": frozenset({"usage.read", "billing.read", "billing.write", "billing.pay", "models.read"}),
}
ROLE_CHOICES = [(role, role.capitalize()) for role in ROLE_ACTIONS]
OPERATOR = "operator"


class OrganisationLike(Protocol):
    @property
    def is_operator(self) -> bool: ...


class MembershipLike(Protocol):
    @property
    def role(self) -> str: ...

    @property
    def organisation(self) -> OrganisationLike: ...


def can(membership: MembershipLike | None, action: str) -> bool:
    """Whether a member may do something; `operator` is for owners and admins of the operator's organisation."""
    return membership is not None and role_can(membership.role, membership.organisation, action)


def role_can(role: str, org: OrganisationLike, action: str) -> bool:
    """As `can`, for a role alone."""
    if action == OPERATOR:
        return org.is_operator and role in {"owner", "admin"}
    return action in ROLE_ACTIONS.get(role, frozenset())
