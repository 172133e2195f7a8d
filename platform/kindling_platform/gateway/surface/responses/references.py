"""Items of the input that stand for what a kept response has said."""

import re
from collections.abc import Sequence

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.surface.fields import invalid_value
from kindling_platform.gateway.surface.responses.items import REFERENCE, Item, ids_distinct
from kindling_platform.gateway.surface.responses.store import ResponseStore

# The id of an item begins with that of its response.
ITEM_ID = re.compile(r"[a-z]+_([0-9a-f]{32})[0-9a-f]{2,}")


async def references_resolve(items: Sequence[Item], caller: Caller, store: ResponseStore) -> list[Item]:
    """The items with those in place that references name. Errors: 404 `item_not_found`, and those of the store."""
    places = _places(items)
    if not places:
        return ids_distinct(items)
    responses = {f"resp_{found[1]}" for item_id in places if (found := ITEM_ID.fullmatch(item_id))}
    said = {item["id"]: item for item in await store.said(caller, sorted(responses))}
    for item_id, place in places.items():
        if item_id not in said:
            message = (
                f"There is no item {item_id[:80]!r}, or its response is no longer kept. Send the item itself."
            )
            raise GatewayError(404, "item_not_found", message, param=place)
    return ids_distinct([said[item["id"]] if item["type"] == REFERENCE else item for item in items])


def _places(items: Sequence[Item]) -> dict[str, str]:
    places: dict[str, str] = {}
    for item in items:
        if item["type"] == REFERENCE:
            if item["id"] in places:  # a few bytes each would make a conversation without end
                raise invalid_value(item["place"], f"{item['place']} names an item for the second time.")
            places[item["id"]] = item["place"]
    return places
