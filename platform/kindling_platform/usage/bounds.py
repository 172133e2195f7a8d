"""What binds the members and the keys of an organisation, beside what they have spent of it by the books."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from kindling_billing.budgets import Spent
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.accounts.selectors import member_list
from kindling_platform.keys.limits import limits_get
from kindling_platform.keys.models import ApiKey, LimitSet
from kindling_platform.keys.selectors import key_get, key_list
from kindling_platform.usage.selectors import spent_by_key_map, spent_get

NOTHING = Spent(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class MemberBound:
    """A member; `spent` is what all keys cost that they have made, the playground's included."""

    membership: Membership
    limits: LimitSet
    spent: Spent


@dataclass(frozen=True, slots=True)
class KeyBound:
    """A key that is live, the newest of those that it was rotated into; `spent` is that of all of them."""

    key: ApiKey
    limits: LimitSet
    spent: Spent


@dataclass(frozen=True, slots=True)
class Bounds:
    """Everybody in an organisation: members oldest first, keys newest first."""

    members: list[MemberBound]
    keys: list[KeyBound]


def bounds_get(*, org: Organisation, moment: datetime) -> Bounds:
    """All of them, in as many queries whatever their number. GPU time is the organisation's alone."""
    by_family, by_member = _spent(org, moment)
    sets = {row.target_id: row for row in LimitSet.objects.for_org(org).order_by("id")}
    return Bounds(
        [
            MemberBound(
                row,
                sets.get(row.user_id) or LimitSet(organisation=org, member_id=row.user_id),
                by_member.get(row.user_id, NOTHING),
            )
            for row in member_list(org=org)
        ],
        [
            KeyBound(
                key, sets.get(family) or LimitSet(organisation=org, key_id=family), by_family.get(family, NOTHING)
            )
            for family, key in _live(org, moment).items()
        ],
    )  # fmt: skip


def member_spent_map(*, org: Organisation, moment: datetime) -> dict[str, Spent]:
    """What each member's keys have spent, by the user's id; "" for keys that nobody made, those without are absent."""
    return _spent(org, moment)[1]


def member_bound_get(*, org: Organisation, user_id: str, moment: datetime) -> MemberBound:
    """One member.

    Raises:
        KindlingError: `not_found`.
    """
    limits = limits_get(org=org, member_id=user_id)
    membership = member_list(org=org).get(user_id=user_id)
    return MemberBound(
        membership, limits, spent_get(org_id=org.id, moment=moment, version=0, member_id=user_id)
    )


def key_bound_get(*, org: Organisation, key_id: str, moment: datetime) -> KeyBound:
    """One key, whatever its state.

    Raises:
        KindlingError: `not_found`.
    """
    key = key_get(org=org, key_id=key_id)
    limits = limits_get(org=org, key_id=key.id)
    return KeyBound(key, limits, spent_get(org_id=org.id, moment=moment, version=0, key_id=key.family_key_id))


def _spent(org: Organisation, moment: datetime) -> tuple[dict[str, Spent], dict[str, Spent]]:
    """Sums by the first key of a family, and by who made the keys."""
    spent = spent_by_key_map(org_id=org.id, moment=moment)
    made = list(ApiKey.objects.for_org(org).values_list("id", "family_id", "created_by_id"))
    by_family = _sums((family or id_, spent.get(id_)) for id_, family, _ in made)
    return by_family, _sums((member or "", spent.get(id_)) for id_, _, member in made)


def _live(org: Organisation, moment: datetime) -> dict[str, ApiKey]:
    """The newest live key of each family."""
    rows = key_list(org=org).filter(Q(expires_at=None) | Q(expires_at__gt=moment), revoked_at=None)
    found: dict[str, ApiKey] = {}
    for key in rows:
        found.setdefault(key.family_key_id, key)
    return found


def _sums(pairs: Iterable[tuple[str, Spent | None]]) -> dict[str, Spent]:
    sums: defaultdict[str, Spent] = defaultdict(lambda: NOTHING)
    for name, more in pairs:
        if more is not None:
            held = sums[name]
            sums[name] = Spent(
                0,
                held.day_picousd + more.day_picousd,
                held.month_picousd + more.month_picousd,
                held.total_picousd + more.total_picousd,
            )
    return sums
