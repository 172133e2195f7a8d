"""Fetches an adapter's files from the hub, a bounded step at a time; whoever is killed has noted what arrived.

What is fetched takes the way of an upload, so that the same limits hold and a wrong base ends it at the header.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from kindling_platform.accounts.actor import SYSTEM
from kindling_platform.adapters.files import WEIGHTS
from kindling_platform.adapters.hub_client import HubRepository, hub_refusal_told
from kindling_platform.adapters.hub_fetch import (
    RETRY_AFTER_S,
    hub_fetch_advanced,
    hub_fetch_began,
    hub_fetch_plan,
    hub_fetch_postpone,
    hub_fetch_reject,
)
from kindling_platform.adapters.hub_listing import WANTED, listing_checked, sizes_checked
from kindling_platform.adapters.hub_seal import token_open
from kindling_platform.adapters.models import Adapter, AdapterFile, HubFetch
from kindling_platform.adapters.receiving import HEAD_BYTES, file_receive
from kindling_platform.adapters.selectors import adapter_get_any
from kindling_platform.adapters.services import adapter_complete
from kindling_platform.adapters.storage import room_checked, upload_locked
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.leases import lease_kept, lease_release, lease_take
from kindling_platform.common.org_seal import SealBrokenError

LEASE_S = 100.0
# Of one step, and between two notes of how much has arrived.
STEP_S = 15.0
NOTE_S = 1.0
BUSY_S = 5.0
# An adapter that was deleted, rejected or completed meanwhile; none of it is an error of the download.
OVER = {"not_found", "adapter_rejected", "not_uploading"}
# What another try may find mended; the first two are over in a moment.
SOON = {"upload_busy", "range_mismatch"}
PASSING = {"hub_offline", "disk_full"}
OFFLINE_MODE = "HF_HUB_OFFLINE is set"
log = structlog.get_logger("kindling.workers")


def hub_fetch_step(*, adapter_id: str) -> bool:
    """Take a download one step further; False while somebody else does, or when there is nothing to fetch."""
    token = lease_take(Adapter.objects, pk=adapter_id, ttl_s=LEASE_S)
    if token is None:
        return False
    try:
        adapter = adapter_get_any(adapter_id=adapter_id)
        if adapter is None or adapter.state != Adapter.State.UPLOADING or adapter.hub is None:
            return False
        with lease_kept(Adapter.objects, pk=adapter_id, token=token, ttl_s=LEASE_S):
            is_whole = _Step(adapter, adapter.hub, token).run()
    finally:
        lease_release(Adapter.objects, pk=adapter_id, token=token)
    if is_whole:
        _complete(adapter)
    return True


def _complete(adapter: Adapter) -> None:
    """Without the lease, which the checks will want. Whoever is killed before it does it in the next step."""
    try:
        adapter_complete(org=adapter.organisation, adapter_id=adapter.id, actor=SYSTEM)
    except KindlingError as error:
        log.info("adapters.fetch_not_completed", adapter=adapter.id, code=error.code)


class _Step:
    def __init__(self, adapter: Adapter, fetch: HubFetch, token: str) -> None:
        self._adapter, self._fetch, self._token = adapter, fetch, token
        self._until = time.monotonic() + STEP_S
        self._before = self._arrived()

    def run(self) -> bool:
        """Whether all files are here now."""
        hub_fetch_began(adapter_id=self._adapter.id, token=self._token)
        try:
            hub = HubRepository(self._fetch.repo_id, self._opened_token())
            with upload_locked(self._adapter.id) as folder:
                if not self._fetch.commit and not self._plan(hub):
                    return False
                files = sorted(self._adapter.files.all(), key=lambda file: WANTED.index(file.name))
                for file in files:
                    _believe_disk(folder, file)
                done = [self._bring(hub, folder, file) for file in files]
                return all(done)
        except SealBrokenError:
            self._reject("hub_forbidden", "The token cannot be read any more. Begin again and give it anew.")
        except KindlingError as error:
            self._failed(error)
        except FileNotFoundError:
            # The folder goes with a deleted adapter, at any moment; nothing is noted of one that is gone.
            hub_fetch_postpone(adapter_id=self._adapter.id, token=self._token, wait_s=BUSY_S)
        return False

    def _opened_token(self) -> str:
        sealed = bytes(self._fetch.sealed_token)
        return token_open(sealed, org_id=self._adapter.organisation_id, adapter_id=self._adapter.id)

    def _plan(self, hub: HubRepository) -> bool:
        commit, listed = hub.look(self._fetch.revision)
        names = listing_checked(self._fetch.repo_id, listed)
        sizes = sizes_checked({name: listed[name] or hub.size(name, commit) for name in names})
        room_checked(sum(sizes.values()))
        self._fetch.commit = commit
        return hub_fetch_plan(adapter_id=self._adapter.id, token=self._token, commit=commit, sizes=sizes)

    def _bring(self, hub: HubRepository, folder: Path, file: AdapterFile) -> bool:
        """Whether the file is whole; what is asked for next stands behind what is here."""
        while file.received_bytes < file.size_bytes and self._has_time():
            # The header says whether the base fits; until that is known nothing behind it is asked for.
            is_head = file.name == WEIGHTS and file.received_bytes < HEAD_BYTES
            end = min(HEAD_BYTES, file.size_bytes) if is_head else file.size_bytes
            file = self._bring_part(hub, folder, file, end)
        return bool(file.received_bytes == file.size_bytes)

    def _bring_part(self, hub: HubRepository, folder: Path, file: AdapterFile, end: int) -> AdapterFile:
        with hub.open(
            file.name, self._fetch.commit, first=file.received_bytes, end=end, size=file.size_bytes
        ) as blocks:
            while file.received_bytes < end and self._has_time():
                file = file_receive(
                    adapter=self._adapter,
                    folder=folder,
                    name=file.name,
                    blocks=_for_a_moment(blocks),
                    actor=SYSTEM,
                    offset=file.received_bytes,
                    total_bytes=file.size_bytes,
                    part_bytes=end - file.received_bytes,
                )
                hub_fetch_advanced(adapter_id=self._adapter.id, token=self._token)
        return file

    def _arrived(self) -> int:
        return sum(self._adapter.files.values_list("received_bytes", flat=True))

    def _has_time(self) -> bool:
        return time.monotonic() < self._until

    def _failed(self, error: KindlingError) -> None:
        if error.code in OVER:
            return
        if error.code in SOON:
            hub_fetch_postpone(adapter_id=self._adapter.id, token=self._token, wait_s=BUSY_S)
            return
        told = hub_refusal_told(error, self._fetch.repo_id)
        if error.code not in PASSING or error.details == OFFLINE_MODE:
            self._reject(error.code, told)
            return
        if self._arrived() > self._before:
            hub_fetch_advanced(adapter_id=self._adapter.id, token=self._token)
        failures = HubFetch.objects.get(adapter_id=self._adapter.id).failures
        if failures >= len(RETRY_AFTER_S):
            self._reject(error.code, f"{told} It was tried {failures + 1} times.")
            return
        wait_s = RETRY_AFTER_S[failures]
        wait = f"{wait_s} seconds" if wait_s < 60 else f"{wait_s // 60} min"
        hub_fetch_postpone(
            adapter_id=self._adapter.id,
            token=self._token,
            wait_s=wait_s,
            reason=f"{told} It is tried again in {wait}; what has arrived is kept.",
        )

    def _reject(self, code: str, sentence: str) -> None:
        if code == "hub_offline":
            sentence += " Fetch the repository elsewhere and upload its files."
        hub_fetch_reject(adapter_id=self._adapter.id, token=self._token, code=code, sentence=sentence)


def _believe_disk(folder: Path, file: AdapterFile) -> None:
    """After a power loss there may be less than was noted."""
    path = folder / file.name
    size = path.stat().st_size if path.exists() else 0
    if size < file.received_bytes:
        file.received_bytes = size
        file.save(update_fields=["received_bytes"])


def _for_a_moment(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks until it is time to note how much has arrived; at least one."""
    until = time.monotonic() + NOTE_S
    for block in blocks:
        yield block
        if time.monotonic() >= until:
            return
