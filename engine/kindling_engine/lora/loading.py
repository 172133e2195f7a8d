"""The thread that reads adapters beside the step loop, one after the other."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.fetching import BlobFetcher, fetch_failed
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.scratch import SlabScratch
from kindling_engine.lora.stores import AdapterStore
from kindling_engine.protocol.adapter_report import ENGINE_FAILED

LoadFunction = Callable[[Path], LoadedAdapter]
Result = LoadedAdapter | AdapterError
_Job = tuple[str, Path, bool]


class LoaderThread:
    """Reads in the order of ``read``; ``wake`` is called from the thread when something has been read or has failed.

    What ``scratch`` has is read from there, and what it has not is put there. The thread ends with this object.
    What is not on this disk is left to the ``fetcher`` meanwhile, and read when it has come.
    """

    def __init__(
        self,
        load: LoadFunction,
        store: AdapterStore,
        *,
        wake: Callable[[], None],
        scratch: SlabScratch | None = None,
        fetcher: BlobFetcher | None = None,
    ) -> None:
        self._load = load
        self._store = store
        self._wake = wake
        self._scratch = scratch
        self._fetcher = fetcher
        self.fetching: set[str] = set()
        """Those whose files are on their way to this disk; other threads change it."""
        self.fetches = 0
        self.fetch_failures = 0
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[str, Result]] = SimpleQueue()
        work = partial(_read_until_gone, weakref.ref(self), self._jobs)
        threading.Thread(target=work, name="adapter-loader", daemon=True).start()
        weakref.finalize(self, self._jobs.put, None)

    def read(self, adapter: str, folder: Path) -> None:
        self._jobs.put((adapter, folder, False))

    def take(self) -> Iterator[tuple[str, Result]]:
        """What has been read, or why it was not, since it was asked last."""
        while not self._done.empty():
            yield self._done.get()

    def forget(self, adapter: str) -> None:
        """The next time it is read from its files."""
        if self._scratch is not None:
            self._scratch.drop(adapter)

    def _settle(self, adapter: str, folder: Path, is_fetched: bool = False) -> None:
        result: Result
        if self._fetcher is not None and not _touch(folder):
            self._missing(self._fetcher, adapter, folder, is_fetched)
            return
        try:
            result = self._read(adapter, folder)
        except AdapterError as error:
            if self._fetcher is not None and not folder.is_dir():
                # Whoever keeps the disk within its bound took it away at this moment.
                self._missing(self._fetcher, adapter, folder, is_fetched)
                return
            result = error
        except Exception as error:  # the thread must outlive any file it is given
            message = f"The engine failed while it loaded the adapter: {type(error).__name__}."
            result = AdapterError(ENGINE_FAILED, message, fix="")
        self._done.put((adapter, result))
        self._wake()

    def _missing(self, fetcher: BlobFetcher, adapter: str, folder: Path, is_fetched: bool) -> None:
        if is_fetched:
            self._done.put((adapter, fetch_failed("They are not where they were brought to.")))
        else:
            self.fetching.add(adapter)
            self.fetches += 1
            fetcher.fetch(adapter, partial(self._fetched, adapter, folder))
        # Others may be read while this one is on its way.
        self._wake()

    def _fetched(self, adapter: str, folder: Path, error: AdapterError | None) -> None:
        if error is None:
            self._jobs.put((adapter, folder, True))
        else:
            self.fetch_failures += 1
            self._done.put((adapter, error))
        self.fetching.discard(adapter)
        self._wake()

    def _read(self, adapter: str, folder: Path) -> LoadedAdapter:
        if self._scratch is None:
            return self._store.ready(self._load(folder))
        kept = self._scratch.get(adapter, folder, pinned=self._store.pinned)
        if kept is not None:
            return kept
        loaded = self._store.ready(self._load(folder))
        self._scratch.put(adapter, folder, loaded)
        return loaded


def _touch(folder: Path) -> bool:
    """Whether the folder is there; it was used now, so that it is not the next to leave the disk."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    except OSError:  # another's, or on a disk that is read only
        return folder.is_dir()
    return True


def _read_until_gone(loader: "weakref.ref[LoaderThread]", jobs: "SimpleQueue[_Job | None]") -> None:
    """Hold the loader only while it reads, so that a model nobody uses any more leaves memory."""
    while (job := jobs.get()) is not None and (there := loader()) is not None:
        there._settle(*job)
        del there
