"""The text that travels from gateway to usage log: who asks, for what, at which price."""

import msgspec


class UsageContext(msgspec.Struct, frozen=True):
    """Ids bound when a request was admitted."""

    org: str
    key: str
    model: str
    name: str
    price: str
    adapter: str = ""
    deployment: str = ""


def context_parse(text: str) -> UsageContext | None:
    """The context of a record, or None if it is not one of ours."""
    try:
        return msgspec.json.decode(text.encode(), type=UsageContext)
    except msgspec.MsgspecError:
        return None
