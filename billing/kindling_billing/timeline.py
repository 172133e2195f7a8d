"""Price versions in the order in which people read them: what holds now, what comes, what has been."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from kindling_billing.models import PriceVersion

IN_FORCE, FUTURE, PAST, REPLACED = "in_force", "future", "past", "replaced"
ORDER = (IN_FORCE, FUTURE, PAST, REPLACED)


@dataclass(frozen=True, slots=True)
class Entry:
    """A version and the time for which it holds; a replaced one never did: another begins at its very moment."""

    version: PriceVersion
    state: str
    until: datetime | None


def timeline_of(versions: Iterable[PriceVersion], *, now: datetime) -> list[Entry]:
    """Versions of one sku and plan: the one in force, those to come (soonest first), those that were (latest first)."""
    rows = sorted(versions, key=lambda row: (row.valid_from, row.id))
    entries = []
    for place, row in enumerate(rows):
        following = rows[place + 1].valid_from if place + 1 < len(rows) else None
        entries.append(Entry(row, _state(row, following, now), following))
    entries.sort(key=lambda entry: (ORDER.index(entry.state), _nearness(entry, now)))
    return entries


def timeline_map(versions: Iterable[PriceVersion], *, now: datetime) -> dict[str, Entry]:
    """The same for all versions of some skus, by id."""
    held: dict[tuple[str, str], list[PriceVersion]] = defaultdict(list)
    for version in versions:
        held[version.plan_id, version.sku].append(version)
    return {entry.version.id: entry for rows in held.values() for entry in timeline_of(rows, now=now)}


def _state(row: PriceVersion, following: datetime | None, now: datetime) -> str:
    if following == row.valid_from:
        return REPLACED
    if row.valid_from > now:
        return FUTURE
    return IN_FORCE if following is None or following > now else PAST


def _nearness(entry: Entry, now: datetime) -> float:
    return abs((entry.version.valid_from - now).total_seconds())
