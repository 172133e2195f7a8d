"""The few things that we ask of an object store. The library is loaded when there is one to ask."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kindling_platform.common.objectstore.errors import AWAY, MISSING, StoreError, store_error
from kindling_platform.common.objectstore.place import StorePlace

if TYPE_CHECKING:
    from obstore.store import S3Store

T = TypeVar("T")
# Of a file, what one request sends or asks for, and how many are under way.
PART_BYTES = 8 * 2**20
PARTS_AT_ONCE = 4
# Of one request from its beginning to its end; a part that takes longer comes in at less than half a megabyte a second.
REQUEST_TIMEOUT_S = 20
CONNECT_TIMEOUT_S = 5
RETRIES = 3
RETRY_WITHIN_S = 20
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 3.0


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its name below the place's prefix, its size, and when it was written by the store's clock."""

    key: str
    size_bytes: int
    written_at: datetime


class ObjectStore:
    """One place of a store. Any thread may ask; errors of every method: `StoreError`."""

    def __init__(self, place: StorePlace, *, retries: int = RETRIES) -> None:
        self._place = place
        self._retries = retries
        self._opened: S3Store | None = None

    def put(self, key: str, data: bytes) -> None:
        self._ask(lambda library, store: library.put(store, key, data))

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object that is not there; False if it is. Where the server knows no conditions, it is written."""
        try:
            self._ask(
                lambda library, store: library.put(store, key, data, mode="create"), raw=("AlreadyExists",)
            )
        except _Raw:
            return False
        except StoreError as error:
            if "501" not in error.detail and "NotImplemented" not in error.detail:
                raise
            self.put(key, data)
        return True

    def put_file(self, key: str, path: Path) -> None:
        """Write a file, in parts if it is long; there is nothing of it until all of them are there."""

        def put(library: Any, store: Any) -> None:
            library.put(store, key, path, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)

        self._ask(put)

    def get(self, key: str, *, most_bytes: int) -> bytes | None:
        """All of a small object; None if it is not there or longer than that."""

        def get(library: Any, store: Any) -> bytes | None:
            answer = library.get(store, key)
            return bytes(answer.bytes()) if answer.meta["size"] <= most_bytes else None

        return self._there(get)

    def size(self, key: str) -> int | None:
        """Of an object, in bytes; None if it is not there."""
        return self._there(lambda library, store: int(library.head(store, key)["size"]))

    def blocks(self, key: str, size_bytes: int) -> Iterator[bytes]:
        """The object from its beginning to that size, in order; a few parts are under way at once.

        One that is shorter ends the blocks with an error.
        """

        def part(start: int) -> bytes:
            length = min(PART_BYTES, size_bytes - start)
            return self._ask(
                lambda library, store: bytes(library.get_range(store, key, start=start, length=length))
            )

        coming: deque[Future[bytes]] = deque()
        starts = iter(range(0, size_bytes, PART_BYTES))
        with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="object-store") as pool:
            try:
                for start in starts:
                    coming.append(pool.submit(part, start))
                    if len(coming) == PARTS_AT_ONCE:
                        yield coming.popleft().result()
                while coming:
                    yield coming.popleft().result()
            finally:
                for future in coming:
                    future.cancel()

    def listed(self, prefix: str) -> Iterator[Stored]:
        """Every object whose name is in this folder or below."""

        def pages(library: Any, store: Any) -> Any:
            return library.list(store, prefix=prefix)

        found = iter(self._ask(pages))
        while (page := self._ask(lambda _library, _store: next(found, None))) is not None:
            for one in page:
                yield Stored(one["path"], int(one["size"]), one["last_modified"].astimezone(UTC))

    def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""
        self._there(lambda library, store: library.delete(store, key))

    def _there(self, ask: Callable[[Any, Any], T]) -> T | None:
        try:
            return self._ask(ask)
        except StoreError as error:
            if error.code != MISSING:
                raise
            return None

    def _ask(self, ask: Callable[[Any, Any], T], raw: tuple[str, ...] = ()) -> T:
        import obstore

        try:
            return ask(obstore, self._store())
        except StoreError:
            raise
        except Exception as error:
            if any(name in type(error).__name__ for name in raw):
                raise _Raw from None
            # Its text holds the request, signature included: it is no cause to be shown.
            raise store_error(error) from None

    def _store(self) -> "S3Store":
        if self._opened is None:
            self._opened = _open(self._place, self._retries)
        return self._opened


class _Raw(Exception):
    """An answer that the caller knows what to do with."""


def _open(place: StorePlace, retries: int) -> "S3Store":
    from obstore.store import S3Store

    config: dict[str, Any] = {"region": place.region}
    if place.endpoint:
        config["endpoint"] = place.endpoint
    if place.access_key_id and place.secret_access_key:
        config |= {"access_key_id": place.access_key_id, "secret_access_key": place.secret_access_key}
    try:
        return S3Store(
            place.bucket,
            prefix=place.prefix or None,
            config=config,  # type: ignore[arg-type]
            client_options={
                "allow_http": bool(place.endpoint and place.endpoint.startswith("http://")),
                "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
            },
            retry_config={
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=RETRY_WITHIN_S),
                "backoff": {
                    "init_backoff": timedelta(seconds=FIRST_PAUSE_S),
                    "max_backoff": timedelta(seconds=LONGEST_PAUSE_S),
                    "base": 2,
                },
            },
        )
    except Exception:
        raise StoreError(AWAY, "the settings name no place that could be asked") from None
