"""What a key may do beyond its scopes: never more than the member who made it may at this moment."""

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
