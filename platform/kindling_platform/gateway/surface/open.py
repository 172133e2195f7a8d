"""The request object for a path: who has an error to tell can do it before anything was read."""

from kindling_platform.gateway.request import Receive, Scope, Send
from kindling_platform.gateway.routes import MESSAGE_BATCHES, Action, route_find, split_prefix
from kindling_platform.gateway.surface.form import Form
from kindling_platform.gateway.surface.messages.count import CountForm
from kindling_platform.gateway.surface.messages.reply import BatchForm, MessageForm
from kindling_platform.gateway.surface.shaped import ShapedRequest

KEY_HEADER = b"x-api-key"


def request_open(scope: Scope, receive: Receive, send: Send) -> ShapedRequest:
    """A request in the form of its route; routes whose errors look like OpenAI's set theirs later."""
    return ShapedRequest(scope, receive, send, _form(str(scope["path"])))


def authorization_of(request: ShapedRequest) -> bytes:
    """The Authorization header, or what stands for it: Anthropic's clients send the key as ``x-api-key``."""
    key = request.headers.get(KEY_HEADER)
    given = request.headers.get(b"authorization", b"")
    if key and (not given or isinstance(request.form, MessageForm)):
        return b"Bearer " + key
    return given


def _form(path: str) -> Form | None:
    if "/messages" not in path:
        return None
    route = route_find(path)
    if route and route.action is Action.COUNT_TOKENS:
        return CountForm()
    found = split_prefix(path)
    if found and found[1].startswith(MESSAGE_BATCHES):
        return BatchForm()
    return MessageForm() if found and found[1].partition("/")[0] == "messages" else None
