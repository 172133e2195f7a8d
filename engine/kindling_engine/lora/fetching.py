"""Asks the host's agent to bring adapters' files to this disk, a few at once, on threads of their own.

The agent knows the object store and has the credentials for it; an engine has neither. What is asked is a content hash,
over a socket that only this account can reach, and the answer comes when the folder has its name or cannot be had.
"""

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from kindling_engine.lora.errors import AdapterError
from kindling_engine.protocol.adapter_report import FETCH_FAILED

ANSWER_WITHIN_S = 900.0
"""The agent has its own bound, by the size of what it fetches; this is for one that never answers."""
_AT_ONCE = 4
_FIX = "Try again in a moment; if it stays, tell the operator."
_MOST_ANSWER_BYTES = 1 << 16
_HASH = re.compile(r"[0-9a-f]{64}")

Done = Callable[[AdapterError | None], None]


class BlobFetcher:
    """``fetch`` returns at once; ``done`` is called from one of the threads, with an error or none."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._jobs: SimpleQueue[tuple[str, Done]] = SimpleQueue()
        self._threads = 0

    def fetch(self, adapter: str, done: Done) -> None:
        if not _HASH.fullmatch(adapter):
            done(AdapterError("files", "There are no files of this adapter."))
            return
        if self._threads < _AT_ONCE:
            # Most engines never fetch: they find what they need on the disk.
            self._threads += 1
            threading.Thread(target=self._work, name="adapter-fetcher", daemon=True).start()
        self._jobs.put((adapter, done))

    def _work(self) -> None:
        while True:
            adapter, done = self._jobs.get()
            try:
                reason = self._ask(adapter)
            except (OSError, ValueError, http.client.HTTPException):
                reason = "The agent of this host does not answer."
            done(fetch_failed(reason) if reason else None)

    def _ask(self, adapter: str) -> str:
        """Why the files did not come; nothing when they are there."""
        connection = _UnixConnection(self._source)
        try:
            connection.request("POST", f"/blobs/{adapter}")
            answer = connection.getresponse()
            body = json.loads(answer.read(_MOST_ANSWER_BYTES))
        finally:
            connection.close()
        return "" if answer.status == 200 else str(body["error"]["message"])[:500]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_WITHIN_S)
        self.sock.connect(self._path)


def fetch_failed(reason: str) -> AdapterError:
    return AdapterError(FETCH_FAILED, f"The adapter's files could not be fetched: {reason}", _FIX)
