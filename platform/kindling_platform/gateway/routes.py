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
    MESSAGE_BATCHES = "message_batches"
    MESSAGE_BATCH = "message_batch"
    MESSAGE_BATCH_CANCEL = "message_batch_cancel"
    MESSAGE_BATCH_RESULTS = "message_batch_results"
    RESPONSES = "responses"
    RESPONSE_TOKENS = "response_tokens"
    RESPONSE = "response"
    RESPONSE_ITEMS = "response_items"
    RESPONSE_CANCEL = "response_cancel"
    RERANK = "rerank"
    TOKENIZE = "tokenize"
    DETOKENIZE = "detokenize"
    FEEDBACK = "feedback"
    CLIENT_TOKENS = "client_tokens"
    FILES = "files"
    FILE = "file"
    FILE_CONTENT = "file_content"
    BATCHES = "batches"
    BATCH = "batch"
    BATCH_CANCEL = "batch_cancel"
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
    "tokenize": Action.TOKENIZE,
    "detokenize": Action.DETOKENIZE,
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
FILE_PATHS = {"": Action.FILE, "content": Action.FILE_CONTENT}
BATCH_PATHS = {"": Action.BATCH, "cancel": Action.BATCH_CANCEL}
MESSAGE_BATCHES = "messages/batches"
MESSAGE_BATCH_PATHS = {
    "": Action.MESSAGE_BATCH,
    "cancel": Action.MESSAGE_BATCH_CANCEL,
    "results": Action.MESSAGE_BATCH_RESULTS,
}
LISTS = {
    "models": Action.MODELS,
    "files": Action.FILES,
    "batches": Action.BATCHES,
    MESSAGE_BATCHES: Action.MESSAGE_BATCHES,
}
# What is named by an id, and what may follow that.
BY_ID = {"responses": RESPONSE_PATHS, "files": FILE_PATHS, "batches": BATCH_PATHS}
METHODS = {
    Action.CHAT: ("POST",),
    Action.COMPLETION: ("POST",),
    Action.EMBEDDING: ("POST",),
    Action.MESSAGES: ("POST",),
    Action.COUNT_TOKENS: ("POST",),
    Action.MESSAGE_BATCHES: ("GET", "HEAD", "POST"),
    Action.MESSAGE_BATCH: ("GET", "HEAD", "DELETE"),
    Action.MESSAGE_BATCH_CANCEL: ("POST",),
    Action.MESSAGE_BATCH_RESULTS: ("GET",),
    Action.RESPONSES: ("POST",),
    Action.RESPONSE_TOKENS: ("POST",),
    Action.RESPONSE: ("GET", "HEAD", "DELETE"),
    Action.RESPONSE_ITEMS: ("GET", "HEAD"),
    Action.RESPONSE_CANCEL: ("POST",),
    Action.RERANK: ("POST",),
    Action.TOKENIZE: ("POST",),
    Action.DETOKENIZE: ("POST",),
    Action.FEEDBACK: ("POST",),
    Action.CLIENT_TOKENS: ("POST",),
    Action.FILES: ("GET", "HEAD", "POST"),
    Action.FILE: ("GET", "HEAD", "DELETE"),
    Action.FILE_CONTENT: ("GET",),
    Action.BATCHES: ("GET", "HEAD", "POST"),
    Action.BATCH: ("GET", "HEAD"),
    Action.BATCH_CANCEL: ("POST",),
    Action.MODELS: ("GET", "HEAD"),
    Action.MODEL: ("GET", "HEAD"),
    Action.ROOT: ("GET", "HEAD"),
    Action.UNKNOWN: (),
}


@dataclass(frozen=True, slots=True)
class Route:
    """A parsed path: `org_slug` of ``/<org>/v1``, `argument` the model's name or the id of what is asked for."""

    action: Action
    org_slug: str | None = None
    argument: str = ""


def split_prefix(path: str) -> tuple[str | None, str] | None:
    """Organisation and rest of a data plane path; None when the path belongs to something else.

    ``/v1/x`` and ``/inference/v1/x`` give ``(None, "x")``, ``/acme/v1/x`` gives ``("acme", "x")``; slashes too many, as
    between a base address that ends in one and a path, are none.
    """
    if "//" in path or path.endswith("/"):
        path = "/" + "/".join(part for part in path.split("/") if part)
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
    if rest in LISTS:
        return Route(LISTS[rest], org_slug)
    if rest.startswith("models/") and len(rest) > len("models/"):
        return Route(Action.MODEL, org_slug, rest.removeprefix("models/"))
    if rest.startswith(f"{MESSAGE_BATCHES}/"):
        return _find_by_id(MESSAGE_BATCH_PATHS, rest.removeprefix(f"{MESSAGE_BATCHES}/"), org_slug)
    kind, _, named = rest.partition("/")
    if named and kind in BY_ID:
        return _find_by_id(BY_ID[kind], named, org_slug)
    if not rest:
        return Route(Action.ROOT, org_slug)
    return Route(Action.UNKNOWN, org_slug)


def _find_by_id(paths: dict[str, Action], rest: str, org_slug: str | None) -> Route:
    named, _, what = rest.partition("/")
    is_id = named and not (paths is RESPONSE_PATHS and named in OTHER_RESPONSE_PATHS)
    action = paths.get(what) if is_id else None
    return Route(action, org_slug, named) if action else Route(Action.UNKNOWN, org_slug)
