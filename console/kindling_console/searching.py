"""What a search in the console finds: pages, and what an organisation has, by their names, the best first."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.urls import reverse

from kindling_console.access import Visitor
from kindling_console.search_places import Place, nav_place_list, place_list
from kindling_platform.accounts.selectors import organisation_list_named
from kindling_platform.adapters.selectors import adapter_list_named
from kindling_platform.catalog.selectors import model_list_named
from kindling_platform.common.matching import HAS, match_of
from kindling_platform.deployments.selectors import deployment_list_named
from kindling_platform.keys.selectors import key_list_named

# So many of a kind: whoever looks for another types more of its name.
PER_KIND = 5


@dataclass(frozen=True, slots=True)
class Hit:
    """Something that was found, and where it is."""

    title: str
    note: str
    icon: str
    url: str
    match: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class HitGroup:
    """What was found of a kind."""

    title: str
    hits: list[Hit]


def hit_groups(visitor: Visitor, query: str) -> list[HitGroup]:
    """What a visitor may open that is called like `query`; without one, the pages of the side bar.

    The kind that has the best comes first. Each kind is one query to the database.
    """
    if not query:
        return [HitGroup("Pages", [_of_page(place, 0) for place in nav_place_list(visitor)])]
    found = [HitGroup("Pages", _pages(visitor, query))]
    for title, action, read in KINDS:
        if visitor.may(action):
            found.append(HitGroup(title, list(read(visitor, query))))
    return sorted((group for group in found if group.hits), key=lambda group: group.hits[0].match)


def searched_kinds(visitor: Visitor) -> str:
    """What a search of this visitor looks through, in words."""
    kinds = ["pages", *(title for title, action, _ in KINDS if visitor.may(action))]
    plain = [kind if kind.startswith("API") else kind.lower() for kind in kinds]
    return f"{', '.join(plain[:-1])} and {plain[-1]}" if len(plain) > 1 else plain[0]


def _pages(visitor: Visitor, query: str) -> list[Hit]:
    hits = []
    for place in place_list(visitor):
        match = match_of(query, place.title)
        # Another word for it counts less than any title.
        if match is None and match_of(query, f"{place.title} {place.words}") is not None:
            match = HAS + 1
        if match is not None:
            hits.append(_of_page(place, match))
    return sorted(hits, key=lambda hit: hit.match)[:PER_KIND]


def _of_page(place: Place, match: int) -> Hit:
    return Hit(place.title, "", place.icon, place.url, match, place.key)


def _models(visitor: Visitor, query: str) -> Iterable[Hit]:
    for row in model_list_named(org=visitor.org, query=query)[:PER_KIND]:
        url = reverse("console:model", args=[row.organisation.slug, row.name])
        yield Hit(row.display_name, row.ref, "layout-grid", url, row.match)


def _adapters(visitor: Visitor, query: str) -> Iterable[Hit]:
    for row in adapter_list_named(org=visitor.org, query=query)[:PER_KIND]:
        url = reverse("console:adapter", args=[row.id])
        yield Hit(row.ref, f"on {row.base.ref}, {row.state}", "puzzle", url, row.match)


def _deployments(visitor: Visitor, query: str) -> Iterable[Hit]:
    for row in deployment_list_named(org=visitor.org, query=query)[:PER_KIND]:
        url = reverse("console:deployment", args=[row.id])
        yield Hit(row.name, f"of {row.model.ref}, {row.state}", "server", url, row.match)


def _keys(visitor: Visitor, query: str) -> Iterable[Hit]:
    page = reverse("console:keys")
    for row in key_list_named(org=visitor.org, query=query)[:PER_KIND]:
        yield Hit(row.name, f"{row.prefix}…{row.last4}", "key", f"{page}#{row.id}", row.match)


def _organisations(_visitor: Visitor, query: str) -> Iterable[Hit]:
    for row in organisation_list_named(query=query)[:PER_KIND]:
        url = reverse("console:operator-organisation", args=[row.id])
        yield Hit(row.name, row.slug, "building", url, row.match)


# By which right each is read is that of the page where it is listed.
KINDS: list[tuple[str, str, Callable[[Visitor, str], Iterable[Hit]]]] = [
    ("Models", "models.read", _models),
    ("Adapters", "adapters.read", _adapters),
    ("Deployments", "deployments.read", _deployments),
    ("API keys", "keys.read", _keys),
    ("Organisations", "operator", _organisations),
]
