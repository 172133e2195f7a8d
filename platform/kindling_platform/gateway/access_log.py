"""One line per request: who, what, how long, how much; never a prompt, an answer or a key."""

import asyncio
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any, BinaryIO, Protocol

import orjson
import structlog

from kindling_platform.gateway.request import Request

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
CLIENT_GONE = 499
WITHIN_S = 0.05
LINE = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


class Log(Protocol):
    """What the gateway needs of a logger."""

    def debug(self, event: str, **facts: Any) -> Any: ...

    def info(self, event: str, **facts: Any) -> Any: ...

    def warning(self, event: str, **facts: Any) -> Any: ...

    def error(self, event: str, **facts: Any) -> Any: ...


class LineLogger:
    """Writes lines; one that a full disk does not take stops nobody."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def msg(self, line: bytes) -> None:
        """Write one line, or leave it."""
        with suppress(OSError, ValueError):
            self._file.write(line + b"\n")
            self._file.flush()

    debug = info = warning = error = critical = msg


def make_log(level: str) -> Log:
    """A logger that writes JSON lines to standard error, whatever else configures structlog."""
    log: Log = structlog.wrap_logger(
        LineLogger(sys.stderr.buffer),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(level.lower(), logging.INFO)),
        cache_logger_on_first_use=True,
    )
    return log


class AccessLog:
    """The lines of finished requests, in the shape of all others; those of a moment leave in one write."""

    def __init__(self, level: str, *, file: BinaryIO | None = None) -> None:
        self._is_on = LEVELS.get(level.lower(), logging.INFO) <= logging.INFO
        self._file = file or sys.stderr.buffer
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def note(self, request: Request) -> None:
        """Write the line of a finished request soon."""
        if not self._is_on:
            return
        line = {
            "request_id": request.id,
            "method": request.method,
            "path": request.path[:200],
            "status": request.status or CLIENT_GONE,
            "ms": round((monotonic() - request.started_at) * 1000, 1),
            **request.facts,
            "event": "request",
            "level": "info",
            "timestamp": datetime.now(UTC),
        }
        self._lines.append(orjson.dumps(line, option=LINE))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WITHIN_S, self.flush)

    def flush(self) -> None:
        """Write what waits."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            with suppress(OSError, ValueError):  # a log that nobody takes stops no request
                self._file.write(b"".join(lines))
                self._file.flush()
