"""What a key may do beyond its scopes: never more than the member who made it may at this moment."""

from kindling_platform.accounts.models import Membership
from kindling_platform.keys.models import ApiKey

INSTALLATION_ROLE = "owner"
# Of a key that outlives its maker's membership: what the organisation built with it goes on.
ORPHAN_ROLE = "developer"


def key_role(key: ApiKey, *, maker_role: str | None) -> str:
    """The role that bounds a key; `maker_role` is its maker's in its organisation, None where that is no member.

    The installation's own key has no maker, and is made for whoever runs it.
    """
    if key.kind == ApiKey.Kind.BOOTSTRAP:
        return INSTALLATION_ROLE
    return maker_role or ORPHAN_ROLE


def key_maker_id(key: ApiKey) -> str:
    """The user whose is what a key makes, "" for nobody's; of the installation's own key its oldest owner."""
    if key.kind != ApiKey.Kind.BOOTSTRAP:
        return key.created_by_id or ""
    owners = Membership.objects.filter(organisation_id=key.organisation_id, role=INSTALLATION_ROLE)
    return owners.order_by("created_at", "id").values_list("user_id", flat=True).first() or ""
