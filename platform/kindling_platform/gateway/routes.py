"""Which paths belong to the data plane, and what each of them means."""

from dataclasses import dataclass
from enum import StrEnum

# First parts of paths that are no organisation's. The operator's slug cannot be taken either, but it has a
# ``/v1`` of its own, so this is less than what `common.slugs` reserves.
OTHER_PATHS = frozenset(
    {
        *("v1", "inference", "api", "admin", "console", "static", "accounts", "healthz", "metrics", "stripe"),
        *("docs", "errors", "status"),
    }
)


class Action(StrEnum):
    """What a path asks for."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    RESPONSES = "responses"
    RESPONSE_TOKENS = "response_tokens"
    RESPONSE = "response"
    RESPONSE_ITEMS = "response_items"
    RESPONSE_CANCEL = "response_cancel"
    RERANK = "rerank"
    FEEDBACK = "feedback"
    CLIENT_TOKENS = "client_tokens"
    MODELS = "models"
    MODEL = "model"
    ROOT = "root"
    UNKNOWN = "unknown"


POST_PATHS = {
    "chat/completions": Action.CHAT,
    "completions": Action.COMPLETION,
    "embeddings": Action.EMBEDDING,
    "messages": Action.MESSAGES,
    "messages/count_tokens": Action.COUNT_TOKENS,
    "responses": Action.RESPONSES,
    "responses/input_tokens": Action.RESPONSE_TOKENS,
    "rerank": Action.RERANK,
    "feedback": Action.FEEDBACK,
    "client_tokens": Action.CLIENT_TOKENS,
}
# What others serve where the id of a response stands.
OTHER_RESPONSE_PATHS = frozenset({"compact", "input_tokens"})
# What may follow the id of a kept response.
RESPONSE_PATHS = {
    "": Action.RESPONSE,
    "input_items": Action.RESPONSE_ITEMS,
    "cancel": Action.RESPONSE_CANCEL,
}
METHODS = {
    Action.CHAT: ("POST",),
    Action.COMPLETION: ("POST",),
    Action.EMBEDDING: ("POST",),
    Action.MESSAGES: ("POST",),
    Action.COUNT_TOKENS: ("POST",),
    Action.RESPONSES: ("POST",),
    Action.RESPONSE_TOKENS: ("POST",),
    Action.RESPONSE: ("GET", "HEAD", "DELETE"),
    Action.RESPONSE_ITEMS: ("GET", "HEAD"),
    Action.RESPONSE_CANCEL: ("POST",),
    Action.RERANK: ("POST",),
    Action.FEEDBACK: ("POST",),
    Action.CLIENT_TOKENS: ("POST",),
    Action.MODELS: ("GET", "HEAD"),
    Action.MODEL: ("GET", "HEAD"),
    Action.ROOT: ("GET", "HEAD"),
    Action.UNKNOWN: (),
}


@dataclass(frozen=True, slots=True)
class Route:
    """A parsed path: `org_slug` of ``/<org>/v1``, `argument` the model's name or the response's id."""

    action: Action
    org_slug: str | None = None
    argument: str = ""


def split_prefix(path: str) -> tuple[str | None, str] | None:
    """Organisation and rest of a data plane path; None when the path belongs to something else.

    ``/v1/x`` and ``/inference/v1/x`` give ``(None, "x")``, ``/acme/v1/x`` gives ``("acme", "x")``.
    """
    head, _, rest = path[1:].partition("/")
    if head == "v1":
        return None, rest
    second, _, rest = rest.partition("/")
    if second != "v1" or not head:
        return None
    if head == "inference":
        return None, rest
    return None if head in OTHER_PATHS else (head, rest)


_USUAL = {f"/v1/{path}": Route(action) for path, action in POST_PATHS.items()}


def route_find(path: str) -> Route | None:
    """The route of a path; None when it is not one of the data plane's."""
    if usual := _USUAL.get(path):
        return usual
    found = split_prefix(path)
    if found is None:
        return None
    org_slug, rest = found
    if rest in POST_PATHS:
        return Route(POST_PATHS[rest], org_slug)
    if rest == "models":
        return Route(Action.MODELS, org_slug)
    if rest.startswith("models/") and len(rest) > len("models/"):
        return Route(Action.MODEL, org_slug, rest.removeprefix("models/"))
    if rest.startswith("responses/"):
        return _response_find(rest.removeprefix("responses/"), org_slug)
    if not rest:
        return Route(Action.ROOT, org_slug)
    return Route(Action.UNKNOWN, org_slug)


def _response_find(rest: str, org_slug: str | None) -> Route:
    response_id, _, what = rest.partition("/")
    is_id = response_id and response_id not in OTHER_RESPONSE_PATHS
    action = RESPONSE_PATHS.get(what) if is_id else None
    return Route(action, org_slug, response_id) if action else Route(Action.UNKNOWN, org_slug)
