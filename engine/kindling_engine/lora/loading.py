"""The thread that reads adapters beside the step loop, one after the other."""

import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.scratch import SlabScratch
from kindling_engine.lora.stores import AdapterStore

LoadFunction = Callable[[Path], LoadedAdapter]
Result = LoadedAdapter | AdapterError


class LoaderThread:
    """Reads in the order of ``read``; ``wake`` is called from the thread when something has been read or has failed.

    What ``scratch`` has is read from there, and what it has not is put there. The thread ends with this object.
    """

    def __init__(
        self,
        load: LoadFunction,
        store: AdapterStore,
        *,
        wake: Callable[[], None],
        scratch: SlabScratch | None = None,
    ) -> None:
        self._load = load
        self._store = store
        self._wake = wake
        self._scratch = scratch
        self._jobs: SimpleQueue[tuple[str, Path] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[str, Result]] = SimpleQueue()
        work = partial(_read_until_gone, weakref.ref(self), self._jobs)
        threading.Thread(target=work, name="adapter-loader", daemon=True).start()
        weakref.finalize(self, self._jobs.put, None)

    def read(self, adapter: str, folder: Path) -> None:
        self._jobs.put((adapter, folder))

    def take(self) -> Iterator[tuple[str, Result]]:
        """What has been read, or why it was not, since it was asked last."""
        while not self._done.empty():
            yield self._done.get()

    def forget(self, adapter: str) -> None:
        """The next time it is read from its files."""
        if self._scratch is not None:
            self._scratch.drop(adapter)

    def _settle(self, adapter: str, folder: Path) -> None:
        result: Result
        try:
            result = self._read(adapter, folder)
        except AdapterError as error:
            result = error
        except Exception as error:  # the thread must outlive any file it is given
            result = AdapterError(
                "adapter_load_failed", f"The adapter could not be loaded: {type(error).__name__}."
            )
        self._done.put((adapter, result))
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


def _read_until_gone(
    loader: "weakref.ref[LoaderThread]", jobs: "SimpleQueue[tuple[str, Path] | None]"
) -> None:
    """Hold the loader only while it reads, so that a model nobody uses any more leaves memory."""
    while (job := jobs.get()) is not None and (there := loader()) is not None:
        there._settle(*job)
        del there
