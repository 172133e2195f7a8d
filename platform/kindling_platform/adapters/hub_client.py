"""Reads one repository of the hub with the caller's own token, or none: never with the installation's.

HF_ENDPOINT, HF_HUB_OFFLINE and the proxies of the environment mean what they mean to huggingface_hub, which also
decides which redirects are followed.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from kindling_platform.catalog.hub_errors import hub_errors_told, hub_offline
from kindling_platform.common.errors import KindlingError

# For a connection, and for each silence after it.
SILENCE_S = 10.0
OK, PARTIAL = 200, 206
MAX_COMMIT_CHARS = 64


class HubRepository:
    """A repository; each call asks the hub. Errors: KindlingError, those of `hub_errors_told`."""

    def __init__(self, repo_id: str, token: str) -> None:
        self._repo_id = repo_id
        # False, since None would stand for whatever token this machine has.
        self._token: str | bool = token or False
        self._endpoint = os.environ.get("HF_ENDPOINT") or None

    def look(self, revision: str) -> tuple[str, dict[str, int]]:
        """The commit of a revision, and the sizes of its files in bytes; 0 where the hub tells none."""
        from huggingface_hub import HfApi

        with hub_errors_told(self._repo_id):
            info = HfApi(endpoint=self._endpoint, token=self._token).model_info(
                self._repo_id, revision=revision or "main", files_metadata=True, timeout=SILENCE_S
            )
        commit = str(info.sha or "")
        if not 0 < len(commit) <= MAX_COMMIT_CHARS:
            raise hub_offline(self._repo_id, "the hub tells no commit")
        return commit, {one.rfilename: int(one.size or 0) for one in info.siblings or []}

    def size(self, name: str, commit: str) -> int:
        """The size of a file in bytes."""
        found = self._place(name, commit).size
        if found is None:
            raise hub_offline(self._repo_id, f"the hub tells no size of {name}")
        return int(found)

    @contextmanager
    def open(self, name: str, commit: str, *, first: int, end: int, size: int) -> Iterator[Iterator[bytes]]:
        """The bytes of a file from `first` to before `end`, in blocks; it is an error if there are fewer."""
        from huggingface_hub.utils import get_session, hf_raise_for_status

        place = self._place(name, commit)
        headers = {"Range": f"bytes={first}-{end - 1}", **self._headers(place.location)}
        with ExitStack() as stack:
            # Around the asking alone: what goes wrong where the bytes are put is not the hub's.
            with hub_errors_told(self._repo_id):
                asked = get_session().stream("GET", place.location, headers=headers, timeout=SILENCE_S)
                response = stack.enter_context(asked)
                hf_raise_for_status(response)
            self._check_part(response, first, size)
            yield self._blocks(response, end - first)

    def _place(self, name: str, commit: str) -> Any:
        """Where a file lies, which may be another host than the hub."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(self._repo_id, name, revision=commit, endpoint=self._endpoint)
        with hub_errors_told(self._repo_id):
            return get_hf_file_metadata(url, token=self._token, endpoint=self._endpoint, timeout=SILENCE_S)

    def _headers(self, location: str) -> dict[str, str]:
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers

        hub = urlsplit(self._endpoint or constants.ENDPOINT)
        # The token is for the hub and not for those that keep its files.
        at_hub = urlsplit(location)[:2] == hub[:2]
        headers: dict[str, str] = build_hf_headers(token=self._token if at_hub else False)
        return headers | {"Accept-Encoding": "identity"}

    def _check_part(self, response: Any, first: int, size: int) -> None:
        whole = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status_code == PARTIAL and whole not in {str(size), "*"}:
            raise hub_offline(self._repo_id, "files arrive in other sizes than the hub lists")
        if response.status_code != PARTIAL and (response.status_code != OK or first):
            raise hub_offline(
                self._repo_id, f"the hub sends no parts of files (status {response.status_code})"
            )

    def _blocks(self, response: Any, wanted: int) -> Iterator[bytes]:
        seen = 0
        with hub_errors_told(self._repo_id):
            for block in response.iter_bytes():
                yield block[: wanted - seen]
                seen += len(block)
                if seen >= wanted:
                    return
        raise hub_offline(self._repo_id, "the connection ended early")


def hub_refusal_told(error: KindlingError, repo_id: str) -> str:
    """What one who cannot change this installation is told of an error of the hub."""
    if error.code == "hub_not_found":
        return (
            f"The hub has no {repo_id} that may be read in this revision. Check both; a private one needs a token that "
            "may read it."
        )
    if error.code == "hub_forbidden":
        return (
            f"The hub does not give {repo_id} away: it is gated or private. Accept its terms on the hub, and give a "
            "token of an account that may read it."
        )
    if error.code == "hub_offline":
        return f"The Hugging Face hub could not be reached from this installation: {error.details}."
    return error.message
