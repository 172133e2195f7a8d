"""Keeps a response before its client can know that it is complete."""

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.surface.responses.items import Item
from kindling_platform.gateway.surface.responses.reply import ResponseForm
from kindling_platform.gateway.surface.responses.store import ResponseStore


class Keeper:
    """Writes one response into the store; the answer says ``store: false`` when that did not work."""

    def __init__(self, store: ResponseStore, caller: Caller, form: ResponseForm, items: list[Item]) -> None:
        self._store = store
        self._caller = caller
        self._form = form
        self._items = items

    async def __call__(self) -> None:
        if self._form.result is not None:
            self._form.store = await self._store.put(self._caller, self._form.result, self._items)
