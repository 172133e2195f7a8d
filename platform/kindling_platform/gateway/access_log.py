"""One line per request: who, what, how long, how much; never a prompt, an answer or a key."""

import logging
import sys
from time import monotonic
from typing import Any, Protocol

import orjson
import structlog

from kindling_platform.gateway.request import Request

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
CLIENT_GONE = 499


class Log(Protocol):
    """What the gateway needs of a logger."""

    def debug(self, event: str, **facts: Any) -> Any: ...

    def info(self, event: str, **facts: Any) -> Any: ...

    def warning(self, event: str, **facts: Any) -> Any: ...

    def error(self, event: str, **facts: Any) -> Any: ...


def make_log(level: str) -> Log:
    """A logger that writes JSON lines to standard error, whatever else configures structlog."""
    log: Log = structlog.wrap_logger(
        structlog.BytesLogger(sys.stderr.buffer),
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


def log_request(log: Log, request: Request) -> None:
    """Write the line of a finished request."""
    log.info(
        "request",
        request_id=request.id,
        method=request.method,
        path=request.path[:200],
        status=request.status or CLIENT_GONE,
        ms=round((monotonic() - request.started_at) * 1000, 1),
        **request.facts,
    )
