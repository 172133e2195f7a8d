"""What a replica says of tokens with the model's own tokenizer and template: it makes nothing."""

from kindling_platform.gateway.ask import Spare
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Model
from kindling_platform.gateway.engine_replies import is_retried, passed_headers, refusal_of
from kindling_platform.gateway.errors import upstream_failed
from kindling_platform.gateway.names import ModelName
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.routing import Router
from kindling_platform.gateway.upstream import Engines
from kindling_platform.gateway.wire.line import CutError, NotSentError

TRIES = 3


async def tokens_ask(
    request: Request,
    caller: Caller,
    model: Model,
    name: ModelName,
    body: bytes,
    *,
    path: str,
    router: Router,
    engines: Engines,
    spare: Spare | None = None,
) -> None:
    """Answer with what the engine says; it costs nothing, so a replica that fails is left for another one."""
    until = router.deadline()
    headers = {"content-type": "application/json", "x-kindling-request": request.id}
    for _ in range(TRIES):
        replica = await router.pick(caller, model, name, model.ref, until)
        router.enter(replica)
        try:
            reply = await engines.post(replica, path, headers, body)
            try:
                answer = await reply.whole()
            finally:
                reply.close()
        except (NotSentError, CutError):
            router.suspect(replica)
        else:
            if is_retried(reply.status, answer):
                router.suspect(replica)
                continue
            if reply.status >= 500:
                raise refusal_of(reply, answer)
            if spare and (without := spare(reply.status, answer, body)):
                body = without
                continue
            await request.reply(reply.status, answer, passed_headers(reply))
            return
        finally:
            router.leave(replica)
    raise upstream_failed()
