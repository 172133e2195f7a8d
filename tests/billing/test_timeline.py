"""Versions in the order in which people read them."""

from datetime import timedelta

from kindling_billing.models import PriceVersion
from kindling_billing.timeline import timeline_of
from kindling_books_rig import moment

NOW = moment(3, 10, 0)


def version(id_: str, days: int) -> PriceVersion:
    return PriceVersion(id=id_, sku="m", valid_from=NOW + timedelta(days=days))


def shown(*versions: PriceVersion) -> list[tuple[str, str]]:
    return [(entry.version.id, entry.state) for entry in timeline_of(versions, now=NOW)]


def test_the_one_in_force_then_those_to_come_then_those_that_were():
    rows = [version("a", -9), version("b", -5), version("c", -1), version("e", 9), version("d", 2)]
    order = [("c", "in_force"), ("d", "future"), ("e", "future"), ("b", "past"), ("a", "past")]
    assert shown(*rows) == order
    until = {entry.version.id: entry.until for entry in timeline_of(rows, now=NOW)}
    assert (until["c"], until["e"]) == (NOW + timedelta(days=2), None)


def test_of_two_that_begin_together_the_one_with_the_higher_id_holds():
    assert shown(version("b", -1), version("a", -1), version("c", 3), version("d", 3)) == [
        ("b", "in_force"), ("d", "future"), ("a", "replaced"), ("c", "replaced"),
    ]  # fmt: skip
    assert shown() == []


def test_a_version_holds_from_its_very_moment_on():
    assert shown(version("a", 0)) == [("a", "in_force")]
