"""Bodies are bounded before Django writes them to the disk, over a real ASGI round."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.test import Client
from django.urls import reverse

from kindling_people import make_customer
from kindling_platform.config import body_limit
from kindling_platform.config.body_limit import BodyLimit
from kindling_platform.config.django_application import application

MEGABYTE = 1024 * 1024


async def send(
    path: str, *, content, headers: dict[str, str] | None = None, method: str = "PUT"
) -> httpx.Response:
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.request(method, path, content=content, headers=headers or {})


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
    for method, other in (
        ("POST", path),
        ("PUT", "/api/v1/adapters/adp_1/complete"),
        ("PUT", body_limit.FORM),
    ):
        reply = await send(other, content=chunks(5), method=method)
        assert reply.status_code == 413


@pytest.mark.django_db(transaction=True)
async def test_the_form_takes_more_from_those_who_are_signed_in_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(body_limit, "UPLOAD_BYTES", 8 * MEGABYTE)
    ada = await sync_to_async(make_customer)("ada")
    client = Client()
    await sync_to_async(client.force_login)(ada.user)
    session = client.cookies["kindling_session"].value
    for cookie, size, status in (
        ("", 5, 413),
        ("kindling_session=made-up", 5, 413),
        (f"kindling_session={session}", 9, 413),
        (f"kindling_session={session}", 5, 403),  # Django has read it, and misses the CSRF token
    ):
        reply = await send(body_limit.FORM, content=chunks(size), method="POST", headers={"Cookie": cookie})
        assert reply.status_code == status, (cookie, size)
    # A batch's file has bounds of its own.
    monkeypatch.setattr(body_limit, "MAX_FILE_BYTES", 2 * MEGABYTE)
    form = reverse("console:batch-new")
    for cookie, size, status in (
        ("", 5, 413),
        (f"kindling_session={session}", 5, 403),
        (f"kindling_session={session}", 7, 413),
    ):
        reply = await send(form, content=chunks(size), method="POST", headers={"Cookie": cookie})
        assert reply.status_code == status, (cookie, size)


class Clock:
    """A bounded app around one that reads its body; ``parts`` come in when they are asked for."""

    def __init__(self, *, body_s: float) -> None:
        self.app = BodyLimit(self._read, self._yes, body_s=body_s)
        self.sent: list[dict] = []
        self.going = asyncio.Event()

    async def _yes(self, scope: dict) -> bool:
        return True

    async def _read(self, scope: dict, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass
        await self.going.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(self, receive, *, path: str = "/", method: str = "POST") -> int:
        sent: list[dict] = []

        async def answer(message: dict) -> None:
            sent.append(message)

        await self.app({"type": "http", "path": path, "method": method, "headers": []}, receive, answer)
        return sent[0]["status"]


async def whole() -> dict:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_a_body_that_stops_arriving_is_given_up():
    clock = Clock(body_s=0.05)
    parts = iter([{"type": "http.request", "body": b"x", "more_body": True}])

    async def stalled() -> dict:
        for part in parts:
            return part
        await asyncio.sleep(60)
        raise AssertionError("it waited")

    assert await clock.ask(stalled) == 408


async def test_an_answer_may_take_longer_than_its_body():
    clock = Clock(body_s=0.05)
    asked = asyncio.create_task(clock.ask(whole))
    await asyncio.sleep(0.2)
    clock.going.set()
    assert await asked == 204


async def test_a_few_forms_at_a_time():
    clock = Clock(body_s=60)
    asked = [
        asyncio.create_task(clock.ask(whole, path=body_limit.FORM)) for _ in range(body_limit.MOST_FORMS)
    ]
    await asyncio.sleep(0)
    assert await clock.ask(whole, path=body_limit.FORM) == 503
    clock.going.set()
    assert await asyncio.gather(*asked) == [204] * body_limit.MOST_FORMS
    assert await clock.ask(whole, path=body_limit.FORM) == 204


@pytest.mark.parametrize("length", ["abc", "-1", "9" * 40])
async def test_a_length_that_makes_no_sense_is_refused(length: str):
    replies = []

    async def receive() -> dict:
        raise AssertionError("nothing may be read")

    async def answer(message: dict) -> None:
        replies.append(message)

    scope = {"type": "http", "path": "/", "method": "POST", "headers": [(b"content-length", length.encode())]}
    await application(scope, receive, answer)
    assert replies[0]["status"] == 413
