"""The web server: the API, the hosted pages, the switches."""

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator

from aiohttp import BasicAuth, web

from kindling_billing.fake_stripe import hosted, pages
from kindling_billing.fake_stripe.answering import answer, shown
from kindling_billing.fake_stripe.deliveries import Deliveries
from kindling_billing.fake_stripe.errors import Refusal
from kindling_billing.fake_stripe.forms import nested
from kindling_billing.fake_stripe.sessions import checkout_get
from kindling_billing.fake_stripe.switches import switch
from kindling_billing.fake_stripe.world import World

WORLD = web.AppKey("world", World)
KEY = web.AppKey("key", str)
SECRET = web.AppKey("secret", str)
MOST_BYTES = 1024 * 1024


def create_app(world: World, *, key: str, webhook_secret: str) -> web.Application:
    """The application; `key` is the secret key that its callers must have."""
    app = web.Application(client_max_size=MOST_BYTES)
    app[WORLD], app[KEY], app[SECRET] = world, key, webhook_secret
    app.router.add_route("*", "/v1/{path:.*}", api)
    app.router.add_post("/_test/{name}", test_switch)
    app.router.add_get("/pay/{id}", pay_show)
    app.router.add_post("/pay/{id}", pay)
    app.router.add_get("/portal/{id}", portal_show)
    app.router.add_post("/portal/{id}", portal)
    app.router.add_get("/healthz", healthz)
    app.cleanup_ctx.append(_delivering)
    return app


async def api(request: web.Request) -> web.StreamResponse:
    """Everything below /v1, for those who know the key."""
    if not _is_known(request):
        body = {"error": {"type": "invalid_request_error", "message": "Invalid API Key provided."}}
        return web.json_response(body, status=401)
    form = nested((name, str(value)) for name, value in (await request.post()).items())
    params = nested(request.query.items()) | form
    idempotency_key = request.headers.get("Idempotency-Key", "")
    found = answer(request.app[WORLD], request.method, request.path, params, idempotency_key)
    if found.lost and request.transport is not None:
        # The work is done and nobody hears of it: what a time-out looks like from outside.
        request.transport.abort()
    headers = {"Idempotent-Replayed": "true"} if found.replayed else {}
    if idempotency_key:
        headers["Idempotency-Key"] = idempotency_key
    return web.json_response(found.body, status=found.status, headers=headers)


async def test_switch(request: web.Request) -> web.Response:
    """A switch; it needs the key too."""
    if not _is_known(request):
        return web.json_response({}, status=401)
    world = request.app[WORLD]
    try:
        given = await request.json() if request.can_read_body else {}
        with _kept(world):
            done = switch(world, request.match_info["name"], given, secret=request.app[SECRET])
    except Refusal as refusal:
        return web.json_response(shown(refusal.body), status=refusal.status)
    except (KeyError, ValueError, TypeError, AttributeError, json.JSONDecodeError) as error:
        return web.json_response({"error": {"message": f"{type(error).__name__}: {error}"}}, status=400)
    return web.json_response(shown(done))


async def pay_show(request: web.Request) -> web.Response:
    """The form."""
    try:
        session = checkout_get(request.app[WORLD], {}, request.match_info["id"])
    except Refusal as refusal:
        return _html(pages.trouble_page(str(refusal)), 404)
    return _html(pages.pay_page(session) if session["status"] == "open" else pages.closed_page(session))


async def pay(request: web.Request) -> web.Response:
    """A card that was typed in."""
    world, id_ = request.app[WORLD], request.match_info["id"]
    form = await request.post()
    number = str(form.get("number", ""))
    try:
        with _kept(world):
            month, year = _expiry(str(form.get("expires", "12/34")))
            session = hosted.checkout_pay(
                world, id_, number=number, exp_month=month, exp_year=year, confirmed="confirmed" in form
            )
    except Refusal as refusal:
        found = world.store.get("checkout.session", id_)
        if found is None:
            return _html(pages.trouble_page(str(refusal)), 404)
        page = (
            pages.pay_page(found, error=str(refusal))
            if found["status"] == "open"
            else pages.closed_page(found)
        )
        return _html(page, 402 if refusal.status == 402 else 400)
    if session["status"] != "complete":
        return _html(pages.confirm_page(session, number))
    raise web.HTTPSeeOther(hosted.return_url(session))


async def portal_show(request: web.Request) -> web.Response:
    """The customer's page."""
    try:
        return _html(pages.portal_page(*hosted.portal_state(request.app[WORLD], request.match_info["id"])))
    except Refusal as refusal:
        return _html(pages.trouble_page(str(refusal)), 404)


async def portal(request: web.Request) -> web.Response:
    """A change on the customer's page."""
    world, id_ = request.app[WORLD], request.match_info["id"]
    try:
        form = dict(await request.post())
        with _kept(world):
            hosted.portal_change(world, id_, form)
    except Refusal as refusal:
        return _html(pages.trouble_page(str(refusal)), refusal.status)
    raise web.HTTPSeeOther(f"/portal/{id_}")


async def healthz(_request: web.Request) -> web.Response:
    """Whether it answers."""
    return web.json_response({"status": "ok"})


@contextlib.contextmanager
def _kept(world: World) -> Iterator[None]:
    """A transaction that keeps what a declined charge left behind, as the API does."""
    refused: Refusal | None = None
    with world.store.transaction():
        try:
            yield
        except Refusal as refusal:
            if not refusal.keeps:
                raise
            refused = refusal
    if refused:
        raise refused


async def _delivering(app: web.Application) -> AsyncIterator[None]:
    if not app[WORLD].webhook_url:
        yield
        return
    task = asyncio.create_task(Deliveries(app[WORLD], secret=app[SECRET]).run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _is_known(request: web.Request) -> bool:
    header = request.headers.get("Authorization", "")
    given = header.removeprefix("Bearer ")
    if header.startswith("Basic "):
        with contextlib.suppress(ValueError):
            given = BasicAuth.decode(header).login
    return hmac.compare_digest(given.encode(), request.app[KEY].encode())


def _expiry(text: str) -> tuple[int, int]:
    month, _, year = text.replace(" ", "").partition("/")
    if not (month.isdigit() and year.isdigit() and 1 <= int(month) <= 12):
        raise Refusal(400, "invalid_request_error", "The expiry is a month and a year, such as 12/34.")
    return int(month), 2000 + int(year) % 100


def _html(text: str, status: int = 200) -> web.Response:
    return web.Response(
        text=text, status=status, content_type="text/html", headers={"Cache-Control": "no-store"}
    )
