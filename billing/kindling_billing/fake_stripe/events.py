"""What happened, for those who ask instead of being told."""

from kindling_billing.fake_stripe.world import Body, World, page_of


def event_list(world: World, params: Body) -> Body:
    """Events, newest first, of one type or of several."""
    types = params.get("types")

    def is_wanted(event: Body) -> bool:
        return not types or event["type"] in types

    return page_of(world, "event", params, "/v1/events", keep=is_wanted, type=params.get("type", ""))


def event_get(world: World, params: Body, id: str) -> Body:
    """One event."""
    return world.get("event", id)
