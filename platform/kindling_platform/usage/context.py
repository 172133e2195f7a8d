"""The text that travels from gateway to usage log: who asks, for what, at which price."""

import msgspec


class UsageContext(msgspec.Struct, frozen=True):
    """Ids bound when a request was admitted, and whether it pays the price of batch work."""

    org: str
    key: str
    model: str
    name: str
    price: str
    adapter: str = ""
    deployment: str = ""
    batch: bool = False

    @property
    def ids(self) -> tuple[str, ...]:
        """All that is text."""
        return (self.org, self.key, self.model, self.name, self.price, self.adapter, self.deployment)


def context_parse(text: str) -> UsageContext | None:
    """The context of a record, or None if it is not one of ours."""
    try:
        return msgspec.json.decode(text.encode(), type=UsageContext)
    except msgspec.MsgspecError:
        return None
