"""Counts the tokens of a prompt: a replica renders the model's own template, and makes nothing."""

from kindling_platform.gateway.ask import Spare
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Model
from kindling_platform.gateway.errors import upstream_failed
from kindling_platform.gateway.names import ModelName
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.routing import Router
from kindling_platform.gateway.upstream import Engines
from kindling_platform.gateway.wire.line import CutError, NotSentError

PATH = "/v1/chat/tokens"
TRIES = 3


async def tokens_count(
    request: Request,
    caller: Caller,
    model: Model,
    name: ModelName,
    body: bytes,
    *,
    router: Router,
    engines: Engines,
    spare: Spare | None = None,
) -> None:
    """Answer with the engine's count; it costs nothing, so a replica that fails is left for another one."""
    until = router.deadline()
    headers = {"content-type": "application/json", "x-kindling-request": request.id}
    for _ in range(TRIES):
        replica = await router.pick(caller, model, name, model.ref, until)
        router.enter(replica)
        try:
            reply = await engines.post(replica, PATH, headers, body)
            try:
                answer = await reply.whole()
            finally:
                reply.close()
        except (NotSentError, CutError):
            router.suspect(replica)
        else:
            if reply.status >= 500:
                break
            if spare and (without := spare(reply.status, answer, body)):
                body = without
                continue
            await request.reply(reply.status, answer)
            return
        finally:
            router.leave(replica)
    raise upstream_failed()
