"""The line of each finished request: what it says, and that none is lost."""

import asyncio
import io

import orjson
import pytest

from kindling_platform.gateway.access_log import AccessLog
from kindling_platform.gateway.request import Request


def request(path: str, **facts: object) -> Request:
    async def receive() -> dict[str, object]:
        return {}

    async def send(message: object) -> None:
        return

    made = Request({"method": "POST", "path": path, "headers": []}, receive, send)
    made.facts |= facts
    return made


@pytest.fixture
def written() -> io.BytesIO:
    return io.BytesIO()


async def test_a_line_says_who_did_what_and_how_it_ended(written: io.BytesIO):
    log = AccessLog("info", file=written)
    one = request("/v1/x", org="org_1", prompt_tokens=3)
    log.note(one)
    log.note(request("/" + "y" * 500))
    log.flush()
    first, second = (orjson.loads(line) for line in written.getvalue().splitlines())
    assert (first["event"], first["level"], first["request_id"]) == ("request", "info", one.id)
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/x", 499)
    assert (first["org"], first["prompt_tokens"]) == ("org_1", 3)
    assert first["timestamp"].endswith("Z")
    assert len(second["path"]) == 200


async def test_lines_are_written_soon_by_themselves(written: io.BytesIO):
    log = AccessLog("info", file=written)
    log.note(request("/v1/x"))
    async with asyncio.timeout(60):
        while not written.getvalue():
            await asyncio.sleep(0.01)
    assert written.getvalue().count(b"\n") == 1


async def test_a_quieter_level_has_no_lines(written: io.BytesIO):
    log = AccessLog("warning", file=written)
    log.note(request("/v1/x"))
    log.flush()
    assert written.getvalue() == b""


async def test_a_log_that_is_closed_stops_no_request(written: io.BytesIO):
    log = AccessLog("info", file=written)
    written.close()
    log.note(request("/v1/x"))
    log.flush()
    assert written.closed  # and nobody heard of it
