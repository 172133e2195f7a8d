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
from kindling_platform.config.body_refusal import MOST_DISCARDED
from kindling_platform.config.django_application import application, django, signed_in

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


@pytest.mark.django_db(transaction=True)
async def test_a_browser_sees_its_form_again_and_why(monkeypatch: pytest.MonkeyPatch):
    page = {"Accept": "text/html,application/xhtml+xml"}
    ada = await sync_to_async(make_customer)("ada")
    client = Client()
    await sync_to_async(client.force_login)(ada.user)
    session = {"Cookie": f"kindling_session={client.cookies['kindling_session'].value}"}
    monkeypatch.setattr(body_limit, "UPLOAD_BYTES", 6 * MEGABYTE)
    large = b"x" * 7 * MEGABYTE
    for content in (large, chunks(7)):
        reply = await send(body_limit.FORM, content=content, method="POST", headers=page | session)
        html = reply.text
        assert reply.status_code == 413 and 'id="upload"' in html
        assert "Nothing was saved: what you sent is too large. This form takes 6 MiB" in html
    # Whoever is signed out meanwhile is told that, on the way to signing in.
    lost = await send(body_limit.FORM, content=large, method="POST", headers=page)
    assert (lost.status_code, lost.headers["location"].split("?")[0]) == (302, "/accounts/login/")
    assert "content-length" in lost.headers and "messages" in lost.headers["set-cookie"]
    # htmx opens the page anew; an address without a page leads to the one behind it.
    part = {"HX-Request": "true", "HX-Current-URL": "http://localhost/console/keys/"}
    reply = await send("/console/keys/", content=large, method="POST", headers=part | session)
    assert (reply.status_code, reply.headers["hx-redirect"]) == (204, "/console/keys/")
    behind = await send(
        "/console/adapters/adp_1/delete/", content=large, method="POST", headers=page | session
    )
    assert behind.status_code in (302, 404)
    for path, headers in (("/api/v1/keys", page), (body_limit.FORM, {})):
        reply = await send(path, content=large, method="POST", headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "request_too_large")


async def form_refused(
    parts: list[dict], *, body_s: float = 60.0, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> tuple[int, str]:
    """What Django answers a browser whose form arrives in these parts, and behind them nothing more."""
    left, sent, calls = list(parts), [], 0

    async def receive() -> dict:
        nonlocal calls
        calls += 1
        if calls == 2 or not left:  # the second part is late
            await asyncio.Event().wait()
        return left.pop(0)

    async def answer(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/accounts/login/", "query_string": b"",
        "headers": [(b"accept", b"text/html"), (b"host", b"localhost"), *headers],
    }  # fmt: skip
    async with asyncio.timeout(10):
        await BodyLimit(django, signed_in, body_s=body_s)(scope, receive, answer)
    assert parts or not calls
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:]).decode()


@pytest.mark.django_db(transaction=True)
async def test_a_form_that_is_refused_waits_for_nothing_and_goes_on_meanwhile():
    # Its last part is what makes it too large.
    last = {"type": "http.request", "body": b"x" * (body_limit.DEFAULT_BYTES + 1), "more_body": False}
    status, page = await form_refused([last])
    assert status == 413 and "Nothing was saved: what you sent is too large." in page
    # More of it comes while the page is made.
    part = {"type": "http.request", "body": b"x", "more_body": True}
    status, page = await form_refused([part] * 100, body_s=0.05)
    assert status == 408 and "Nothing was saved: what you sent did not arrive in time." in page
    # Whoever asks before sending it is told so, and not to send it: the first read would do that.
    asks = ((b"expect", b"100-continue"), (b"content-length", b"999999999"))
    status, page = await form_refused([], headers=asks)
    assert status == 413 and "Nothing was saved: what you sent is too large." in page


async def test_few_forms_that_are_too_large_are_heard_out_at_a_time():
    sent: list[dict] = []
    going = asyncio.Event()

    async def endless() -> dict:
        await going.wait()
        return {"type": "http.disconnect"}

    async def answer(message: dict) -> None:
        sent.append(message)

    async def taken(scope: dict, receive, send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": []})

    limit = BodyLimit(taken, signed_in)
    large = [(b"accept", b"text/html"), (b"content-length", b"999999999")]
    scope = {"type": "http", "method": "POST", "path": "/accounts/login/", "headers": large}
    asked = [asyncio.create_task(limit(scope, endless, answer)) for _ in range(MOST_DISCARDED + 1)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert [one.done() for one in asked] == [False] * MOST_DISCARDED + [True]
    assert b"request_too_large" in sent[1]["body"]
    going.set()
    await asyncio.gather(*asked)
    assert [one["status"] for one in sent if "status" in one] == [413] * (MOST_DISCARDED + 1)
