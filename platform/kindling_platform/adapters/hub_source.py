"""Which repository of the Hugging Face Hub an adapter comes from: checked before anybody is asked for it."""

import re
from dataclasses import dataclass, field

from kindling_platform.common.errors import KindlingError

MAX_ID_CHARS = 96
MAX_REVISION_CHARS = 128
MAX_TOKEN_CHARS = 200
# The hub's own rules; nothing of an id or a revision can lead out of its place in an address.
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_ID = re.compile(rf"{_PART}/{_PART}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository, the branch, tag or commit wanted of it, and the token that opens it if it is private."""

    repo_id: str
    revision: str = ""
    token: str = field(default="", repr=False)


def hub_source_checked(source: HubSource) -> HubSource:
    """The source, unchanged.

    Raises:
        KindlingError: hub_id_invalid, with the field in `param`.
    """
    repo_id = source.repo_id
    is_id = _ID.fullmatch(repo_id) and len(repo_id) <= MAX_ID_CHARS and not repo_id.endswith(".git")
    if not is_id or "--" in repo_id or ".." in repo_id:
        raise _invalid("A repository on the hub is named owner/name, as in acme/support-lora.", "hub_id")
    revision = source.revision
    if revision and (
        not _REVISION.fullmatch(revision) or len(revision) > MAX_REVISION_CHARS or ".." in revision
    ):
        raise _invalid("A revision is a branch, a tag or a commit, such as main.", "revision")
    if source.token and (not _TOKEN.fullmatch(source.token) or len(source.token) > MAX_TOKEN_CHARS):
        raise _invalid("This is no token of the hub: it has other characters, or is too long.", "hub_token")
    return source


def _invalid(message: str, param: str) -> KindlingError:
    return KindlingError("hub_id_invalid", message, param=param)
