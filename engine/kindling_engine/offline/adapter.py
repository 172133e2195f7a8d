"""An adapter of the offline engine: loaded from its folder, pinned while a run uses it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from kindling_engine.lora.cache import AdapterCache
from kindling_engine.protocol.adapter_files import CONFIG_NAME, WEIGHTS_NAME

_LOOK_EVERY_S = 0.25


class AdapterPin:
    """Waits for the cache's loader thread, which calls ``wake``."""

    def __init__(self) -> None:
        self._loaded = threading.Event()

    def wake(self) -> None:
        self._loaded.set()

    @contextmanager
    def pinned(self, cache: AdapterCache, folder: Path | None) -> Iterator[str]:
        """The name under which the adapter is in memory, "" for none. Raises AdapterError."""
        if folder is None:
            yield ""
            return
        # Its content is its identity: cached prefixes of another adapter in the same folder must not be met.
        name = _content_hash(folder)
        ticket = object()
        if not cache.acquire(name, folder, ticket, time.monotonic()):
            self._wait(cache)
        try:
            yield name
        finally:
            cache.release(name)

    def _wait(self, cache: AdapterCache) -> None:
        while True:
            self._loaded.wait(_LOOK_EVERY_S)
            self._loaded.clear()
            for settled in cache.poll(time.monotonic()):
                if settled.error is not None:
                    raise settled.error
                return


class IdleBorrower:
    """Gives the blocks back that adapters lie in which no run uses; those of the run that is under way stay."""

    def __init__(self, cache: AdapterCache) -> None:
        self._cache = cache

    def recall(self, count: int) -> int:
        self._cache.recall(count)
        return 0


def _content_hash(folder: Path) -> str:
    digest = sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        digest.update(name.encode())
    return digest.hexdigest()
