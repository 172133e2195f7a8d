"""The data plane as one ASGI callable: dispatch by path, one shape of errors, one access line per request."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace

import orjson

from kindling_billing import admission_scripts, budgets, holds
from kindling_platform.config.env import Env
from kindling_platform.gateway.access_log import AccessLog, make_log
from kindling_platform.gateway.auth import Caller, Keys, flexible
from kindling_platform.gateway.bodies import Bodies, BodyUnreadError, nodes_check, refused_unread
from kindling_platform.gateway.books import READ as READ_BOOKS
from kindling_platform.gateway.books import books_metrics, books_read
from kindling_platform.gateway.catalog import Catalog, Model
from kindling_platform.gateway.cors import Cors
from kindling_platform.gateway.database import Database
from kindling_platform.gateway.errors import (
    ClientGoneError,
    ErrorDocs,
    GatewayError,
    method_not_allowed,
    model_not_found,
    unknown_url,
)
from kindling_platform.gateway.idempotency.guard import HEADER, NAME, Idempotency
from kindling_platform.gateway.idempotency.store import ReplyStore
from kindling_platform.gateway.inference import Inference
from kindling_platform.gateway.limits.check_in import check_in
from kindling_platform.gateway.limits.client_tokens import client_token_post
from kindling_platform.gateway.metrics import CONTENT_TYPE, PATH, GatewayMetrics, may_read
from kindling_platform.gateway.models import model_get, models_list
from kindling_platform.gateway.names import ModelName, parse_model_name
from kindling_platform.gateway.request import Receive, Request, Scope, Send
from kindling_platform.gateway.request_log.log import RequestLog
from kindling_platform.gateway.routes import METHODS, POST_PATHS, Action, Route, route_find
from kindling_platform.gateway.routing import Router
from kindling_platform.gateway.scribe import Scribe
from kindling_platform.gateway.spool.metering import Metering
from kindling_platform.gateway.surface.batches.routes import batches_serve
from kindling_platform.gateway.surface.batches.runner import BatchRunner
from kindling_platform.gateway.surface.batches.store import BatchStore
from kindling_platform.gateway.surface.calls import COUNTS, ENGINE_PATHS, WITHOUT_OUTPUT, Call, asked_read
from kindling_platform.gateway.surface.count import tokens_ask
from kindling_platform.gateway.surface.feedback import feedback_post
from kindling_platform.gateway.surface.files.routes import files_serve
from kindling_platform.gateway.surface.files.store import FileStore
from kindling_platform.gateway.surface.messages.batches import MessageBatches
from kindling_platform.gateway.surface.open import authorization_of, request_open
from kindling_platform.gateway.surface.responses.background import Background
from kindling_platform.gateway.surface.responses.routes import (
    response_cancel,
    response_delete,
    response_get,
    response_items,
)
from kindling_platform.gateway.surface.responses.store import ResponseStore
from kindling_platform.gateway.surface.shaped import ShapedRequest
from kindling_platform.gateway.traces import Traces, traces_open
from kindling_platform.gateway.upstream import Engines
from kindling_platform.gateway.valkey import Valkey
from kindling_platform.gateway.wallets import Wallets
from kindling_platform.gateway.watch import Watch, Watches

SCRIPTS = {
    **admission_scripts.SCRIPTS,
    **budgets.SCRIPTS,
    **holds.SCRIPTS,
    "books": READ_BOOKS,
}
ROOT = {"object": "api", "paths": [*POST_PATHS, "models"]}
GRACE_S = 2.0


class Gateway:
    """Serves ``/v1``, ``/inference/v1``, ``/<org>/v1`` and ``/healthz``."""

    def __init__(self, env: Env, *, grace_s: float = GRACE_S, traces: Traces | None = None) -> None:
        self._log = make_log(env.log_level)
        self._access = AccessLog(env.log_level)
        self._cors = Cors(env.cors_origins)
        self._database = Database(env.database_url)
        self._kept = Database(env.database_url, writes=True)
        self._shipped = Scribe(env.database_url)
        self._responses = ResponseStore(self._kept, env.secret_key)
        self._background = Background(self._responses, self._log, ended=self._job_ended)
        self._valkey = Valkey(env.redis_url, SCRIPTS)
        self._engines = Engines(self._log)
        self._keys = Keys(self._database, env.key_pepper, defaults=env.limits)
        self._catalog = Catalog(self._database)
        self._router = Router(self._database, adapters_of=self._engines.adapters)
        self._wallets = Wallets(self._database, self._valkey, self._log)
        self._metering = Metering(env.home, self._shipped, self._log, cap_bytes=env.spool_max_bytes)
        self._idempotency = Idempotency(ReplyStore(self._kept), env.secret_key, self._metering, self._log)
        self._request_log = RequestLog(self._kept, env.secret_key, self._log)
        self._stored = Database(env.database_url, writes=True)
        self._files = FileStore(self._stored, env.secret_key)
        self._batches = BatchStore(self._stored)
        self._runner = BatchRunner(
            self._stored, self._files, env.secret_key, keys=self._keys, serve=self._serve_inner, log=self._log
        )
        self._message_batches = MessageBatches(
            self._batches, self._files, self._runner, public_url=env.public_url
        )
        self._bodies = Bodies()
        self._error_docs = ErrorDocs(env.public_url)
        self._watches = Watches(grace_s=grace_s)
        self._metrics = GatewayMetrics()
        self._metrics_token = env.metrics_token
        self._traces = traces or traces_open(env.otlp_endpoint)

    async def startup(self) -> None:
        """Open pools; what is down now is found when it comes up."""
        await self._database.open()
        await self._kept.open()
        await self._stored.open()
        await self._shipped.open()
        await self._valkey.open()
        await self._engines.open()
        self._wallets.open()
        self._metering.open()
        self._request_log.open()
        self._watches.open()
        self._runner.open()

    async def shutdown(self) -> None:
        """End what still runs, ship what was used, let settlements finish and close every pool."""
        await self._runner.close()
        await self._watches.close()
        await self._background.close()
        await self._metering.close()
        await self._request_log.close()
        await self._wallets.close()
        await self._engines.close()
        await self._valkey.close()
        await self._shipped.close()
        await self._stored.close()
        await self._kept.close()
        await self._database.close()
        if self._traces:
            await asyncio.to_thread(self._traces.close)
        self._access.flush()

    def drain(self) -> None:
        """The process is about to stop: running requests get a grace period, then an error. Batches go to others."""
        self._runner.drain()
        self._watches.drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        request = request_open(scope, receive, send)
        request.bodies = self._bodies
        self._cors.mark(request)
        await self._answer(request, self._serve(request))

    async def _serve_inner(self, request: ShapedRequest, caller: Caller, action: Action) -> None:
        """A request that comes from inside: like any other, but that it is known who asks what."""
        request.facts |= {"org": caller.org_id, "key": caller.key_id}
        await self._answer(request, self._infer(request, caller, action))

    async def _answer(self, request: ShapedRequest, work: Awaitable[None]) -> None:
        """Do the work of a request, answer with its error if it ends in one, and count it."""
        request.error_docs = self._error_docs
        self._metrics.begin()
        if self._traces:
            request.trace = self._traces.begin(request)
            request.facts["trace"] = request.trace.id
        try:
            await work
        except ClientGoneError:
            request.facts["outcome"] = "client_gone"
        except GatewayError as error:
            request.facts["outcome"] = error.code
            await self._fail(request, error)
        except Exception as error:
            request.facts["outcome"] = "internal_error"
            self._log.error("unexpected_error", request_id=request.id, exc_info=error)
            message = "Something went wrong on our side. Please report the request id of this answer."
            await self._fail(request, GatewayError(500, "internal_error", message))
        finally:
            request.forget()
            if request.trace:
                request.trace.end(request)
            if request.copy:
                self._request_log.end(request.copy, request)
            self._metrics.observe(request)
            self._access.note(request)

    async def _serve(self, request: ShapedRequest) -> None:
        if request.path == "/healthz":
            await self._health(request)
            return
        if request.path == PATH and may_read(request, self._metrics_token):
            await self._tell_metrics(request)
            return
        route = route_find(request.path)
        if route is None or (route.action is Action.UNKNOWN and request.method != "OPTIONS"):
            raise unknown_url(request.method, request.path)
        if request.method == "OPTIONS":
            await self._cors.preflight(request)
        elif request.method not in METHODS[route.action]:
            raise method_not_allowed(request.method, ", ".join(METHODS[route.action]))
        elif route.action is Action.ROOT:
            await request.reply(200, orjson.dumps(ROOT))
        else:
            await self._serve_caller(request, route)

    async def _serve_caller(self, request: ShapedRequest, route: Route) -> None:
        authorization = authorization_of(request)
        origin = request.headers.get(b"origin", b"")
        if origin:
            self._cors.mark_token(request, self._keys.token_of(authorization))
        uploads = route.action is Action.FILES and request.method == "POST"
        with refused_unread(uploads):
            caller = await self._keys.authenticate(authorization, route.org_slug, origin=origin)
        request.facts |= {"org": caller.org_id, "key": caller.key_id}
        if route.action in ENGINE_PATHS:
            await self._infer(request, caller, route.action)
            return
        with refused_unread(uploads):
            await check_in(request, caller, keys=self._keys, wallets=self._wallets)
        store, argument = self._responses, route.argument
        match route.action:
            case Action.CLIENT_TOKENS:
                await client_token_post(
                    request, caller, keys=self._keys, catalog=self._catalog, wallets=self._wallets
                )
            case Action.MODELS:
                await models_list(request, caller, self._catalog)
            case Action.MODEL:
                await model_get(request, caller, self._catalog, self._router, argument)
            case Action.RESPONSE if request.method == "DELETE":
                await response_delete(request, caller, store, argument, jobs=self._background)
            case Action.RESPONSE:
                await response_get(request, caller, store, argument)
            case Action.RESPONSE_ITEMS:
                await response_items(request, caller, store, argument)
            case Action.RESPONSE_CANCEL:
                await response_cancel(request, caller, store, argument, jobs=self._background)
            case Action.FEEDBACK:
                await feedback_post(request, caller, self._kept)
            case _:
                await self._serve_stored(request, caller, route)

    async def _serve_stored(self, request: ShapedRequest, caller: Caller, route: Route) -> None:
        """Files and batches."""
        match route.action:
            case Action.FILES | Action.FILE | Action.FILE_CONTENT:
                await files_serve(request, caller, route, self._files)
            case (
                Action.MESSAGE_BATCHES
                | Action.MESSAGE_BATCH
                | Action.MESSAGE_BATCH_CANCEL
                | Action.MESSAGE_BATCH_RESULTS
            ):
                await self._message_batches.serve(request, caller, route)
            case _:
                await batches_serve(
                    request, caller, route, self._batches, files=self._files, runner=self._runner
                )

    async def _infer(self, request: ShapedRequest, caller: Caller, action: Action) -> None:
        try:
            raw = await request.body()
            nodes_check(raw)
            self._request_log.begin(request, caller, route=action.value, body=raw)
            asked = await asked_read(action, raw, request=request, caller=caller, store=self._responses)
            name = parse_model_name(asked.model)
            if name is None:
                raise model_not_found(asked.model)
            model = await self._catalog.find(caller, name, asked.model)
            await self._router.check_pin(caller, model, name, asked.model)
            call = await asked.call(model)
        except GatewayError as error:
            if error.status < 500:
                await self._count_refused(request, caller, error)
            raise
        caller = flexible(caller) if call.ask.flex else caller
        request.facts |= {"model": model.ref, "stream": call.ask.stream}
        if action not in COUNTS and HEADER in request.headers:
            if not call.ask.stream:
                async with self._idempotency.guard(request, caller, model, raw) as due:
                    if due:
                        await self._run(
                            request, caller, call, action=action, name=name, model=model, heeds_client=False
                        )
                return
            request.ignored += (NAME,)
        await self._run(request, caller, call, action=action, name=name, model=model)

    async def _count_refused(self, request: ShapedRequest, caller: Caller, error: GatewayError) -> None:
        """What is refused counts as what is answered does, or nothing would bound it.

        Raises what `check_in` raises, but not in the midst of a body: that refusal goes first, so that the client is
        heard out behind it.
        """
        with suppress(*(GatewayError,) if isinstance(error, BodyUnreadError) else ()):
            await check_in(request, caller, keys=self._keys, wallets=self._wallets)

    async def _run(
        self,
        request: ShapedRequest,
        caller: Caller,
        call: Call,
        *,
        action: Action,
        name: ModelName,
        model: Model,
        heeds_client: bool = True,
    ) -> None:
        if call.background:
            asked = replace(call, background=None)

            async def work(job: ShapedRequest) -> None:
                await self._run(job, caller, asked, action=action, name=name, model=model)

            await self._background.begin(request, caller, call.background, work)
            return
        # With an Idempotency-Key an answer is made and kept although its client has left: it will ask again.
        with Watch(request, self._watches, heeds_client=heeds_client) as watch:
            if action in COUNTS:
                await check_in(request, caller, keys=self._keys, wallets=self._wallets)
                await tokens_ask(
                    request,
                    caller,
                    model,
                    name,
                    call.body,
                    path=ENGINE_PATHS[action],
                    router=self._router,
                    engines=self._engines,
                    spare=call.spare,
                )
                return
            inference = Inference(
                request=request,
                caller=caller,
                model=model,
                name=name,
                ask=call.ask,
                body=call.body,
                keys=self._keys,
                router=self._router,
                engines=self._engines,
                wallets=self._wallets,
                metering=self._metering,
                generates=action not in WITHOUT_OUTPUT,
                spare=call.spare,
            )
            try:
                await inference.run(ENGINE_PATHS[action], watch)
            finally:
                inference.close()

    def _job_ended(self, request: ShapedRequest) -> None:
        """A response made in the background counts beside the request that asked for it."""
        self._metrics.begin()
        self._metrics.observe(request)
        self._access.note(request)

    async def _health(self, request: Request) -> None:
        checks = {
            "valkey": self._valkey.up,
            "database": await self._database.answers(),
            "spool": self._metering.has_room,
        }
        status = "ok" if all(checks.values()) else "degraded"
        await request.reply(200, orjson.dumps({"status": status, "checks": checks}))

    async def _tell_metrics(self, request: Request) -> None:
        up = {"valkey": self._valkey.up, "database": await self._database.answers()}
        body = self._metrics.render(
            self._metering,
            up=up,
            replicas_waited_for=self._router.waiting,
            more=[*books_metrics(await books_read(self._valkey)), *self._request_log.metrics()],
        )
        await request.reply(200, body, [(b"content-type", CONTENT_TYPE)])

    async def _fail(self, request: Request, error: GatewayError) -> None:
        if request.started:
            await request.break_off(error)
        else:
            await request.refuse(error)


def create_app(env: Env, *, grace_s: float = GRACE_S, traces: Traces | None = None) -> Gateway:
    """The gateway for these settings; `startup` and `shutdown` frame its service."""
    return Gateway(env, grace_s=grace_s, traces=traces)
