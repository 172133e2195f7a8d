"""`POST /v1/messages/count_tokens`: a replica renders the model's own template and counts, and makes nothing."""

import orjson

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.catalog import Model
from kindling_platform.gateway.errors import upstream_failed
from kindling_platform.gateway.names import ModelName
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.routing import Router
from kindling_platform.gateway.surface.messages.reply import MessageForm
from kindling_platform.gateway.upstream import Engines
from kindling_platform.gateway.wire.line import CutError, NotSentError

PATH = "/v1/chat/tokens"
TRIES = 3


class CountForm(MessageForm):
    """The number of tokens in Anthropic's shape."""

    def whole(self, body: bytes) -> None:
        self._answer = orjson.dumps({"input_tokens": orjson.loads(body)["tokens"]})


async def tokens_count(
    request: Request,
    caller: Caller,
    model: Model,
    name: ModelName,
    body: bytes,
    *,
    router: Router,
    engines: Engines,
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
            await request.reply(reply.status, answer)
            return
        finally:
            router.leave(replica)
    raise upstream_failed()
