"""Model names as clients write them."""

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_LENGTH = 512
PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A parsed name; empty `org_slug` means the caller's own, empty `deployment` means any."""

    org_slug: str
    name: str
    deployment_org_slug: str = ""
    deployment: str = ""


def parse_model_name(text: str) -> ModelName | None:
    """Read ``org/name``, ``accounts/<org>/models/<name>`` or a bare ``name``, each with ``#deployment``.

    The part behind ``#`` is a deployment's name or id, ``org/name`` or ``accounts/<org>/deployments/<name>``.
    None when the text is none of these.
    """
    return _parsed(text) if len(text) <= MAX_LENGTH else None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ModelName | None:
    model, pinned, deployment = text.partition("#")
    found = _split(model, "models")
    target = _split(deployment, "deployments") if pinned else ("", "")
    if found is None or target is None:
        return None
    return ModelName(*found, *target)


def _split(text: str, kind: str) -> tuple[str, str] | None:
    parts = text.split("/")
    if not all(PART.fullmatch(part) for part in parts):
        return None
    if len(parts) == 4 and parts[0] == "accounts" and parts[2] == kind:
        return parts[1], parts[3]
    if len(parts) == 2:
        return parts[0], parts[1]
    return ("", parts[0]) if len(parts) == 1 else None
