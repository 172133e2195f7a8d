"""Bodies are bounded before Django writes them to the disk, over a real ASGI round."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from kindling_platform.config import body_limit
from kindling_platform.config.django_application import application

MEGABYTE = 1024 * 1024


async def send(path: str, *, content, headers: dict[str, str] | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.put(path, content=content, headers=headers or {})


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * MEGABYTE
        await asyncio.sleep(0)


@pytest.mark.parametrize("path", ["/api/v1/keys", "/accounts/login/", "/", "/console/adapters"])
async def test_a_declared_size_is_refused_at_once(path: str):
    reply = await send(path, content=b"x" * (body_limit.DEFAULT_BYTES + 1))
    assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_body_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += MEGABYTE
            yield b"x" * MEGABYTE
            await asyncio.sleep(0)

    reply = await send("/api/v1/keys", content=endless())
    assert reply.status_code == 413
    assert sent <= body_limit.DEFAULT_BYTES + 2 * MEGABYTE


async def test_uploads_may_be_larger(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(body_limit, "UPLOAD_BYTES", 8 * MEGABYTE)
    path = "/api/v1/adapters/adp_1/files/adapter_model.safetensors"
    fits = await send(path, content=b"x" * 6 * MEGABYTE, headers={"Authorization": "Bearer nonsense"})
    assert fits.status_code == 401
    larger = await send(path, content=b"x" * 9 * MEGABYTE)
    assert larger.status_code == 413
    form = await send("/console/adapters/upload", content=chunks(9))
    assert form.status_code == 413


@pytest.mark.parametrize("length", ["abc", "-1", "9" * 40])
async def test_a_length_that_makes_no_sense_is_refused(length: str):
    replies = []

    async def receive() -> dict:
        raise AssertionError("nothing may be read")

    async def answer(message: dict) -> None:
        replies.append(message)

    scope = {"type": "http", "path": "/", "headers": [(b"content-length", length.encode())]}
    await application(scope, receive, answer)
    assert replies[0]["status"] == 413
