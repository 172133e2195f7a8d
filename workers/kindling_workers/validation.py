"""Judges an uploaded adapter: its files without torch first, then on a running engine of its base.

Each part may be repeated. The verdict is written under the adapter's lease and only while the adapter still
waits for one, so that a late worker neither revives a deleted adapter nor overrules an earlier verdict.
"""

import redis

from kindling_engine.protocol.adapter_extras import check_extras
from kindling_engine.protocol.adapter_files import AdapterReport, check_adapter_folder
from kindling_engine.protocol.findings import Finding
from kindling_platform.adapters.early_check import base_shape, report_json
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.selectors import adapter_get_any
from kindling_platform.adapters.services import (
    adapter_content_note,
    adapter_validation_postpone,
    adapter_validation_store,
)
from kindling_platform.adapters.storage import blob_folder, blob_release, blob_store, upload_folder
from kindling_platform.adapters.stored import blob_keep, store_pause
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.leases import lease_kept, lease_release, lease_take
from kindling_platform.common.objectstore.errors import StoreError
from kindling_platform.deployments.selectors import replica_list_ready
from kindling_workers.engine_check import (
    EngineCheckBroken,
    EngineCheckUnreachable,
    EngineVerdict,
    engine_check,
)

LEASE_S = 100.0
# An adapter that takes its engine down so often in a row is not tried again.
MAX_BREAKS = 3
BREAKS_KEPT_S = 3600
STORE_AWAY = "The object store does not answer; the adapter is put there, and is ready, as soon as it does."
STORE_REFUSES = (
    "The object store does not take the adapter; the operator's log says why, and it is tried again soon."
)


def adapter_validate(*, adapter_id: str, valkey: "redis.Redis") -> bool:
    """Take the adapter one step further; True when a verdict was stored."""
    token = lease_take(Adapter.objects, pk=adapter_id, ttl_s=LEASE_S)
    if token is None:
        return False
    try:
        adapter = adapter_get_any(adapter_id=adapter_id)
        if adapter is None or adapter.state != Adapter.State.VALIDATING:
            return False
        with lease_kept(Adapter.objects, pk=adapter_id, token=token, ttl_s=LEASE_S):
            return _Validation(adapter, token, valkey).run()
    finally:
        lease_release(Adapter.objects, pk=adapter_id, token=token)


class _Validation:
    def __init__(self, adapter: Adapter, token: str, valkey: "redis.Redis") -> None:
        self._adapter = adapter
        self._token = token
        self._valkey = valkey

    def run(self) -> bool:
        content_hash = self._stored_before()
        # What the store did not take a moment ago need not be tried on an engine once more.
        if content_hash and (paused := store_pause()) is not None:
            return self._wait(_told_of(paused))
        return self._judge(content_hash)

    def _judge(self, content_hash: str) -> bool:
        shape = base_shape(self._adapter.base)
        if not content_hash:
            report = check_adapter_folder(upload_folder(self._adapter.id), shape)
            if not report.ok:
                return self._store(report)
        base = self._adapter.base.ref
        owner = self._adapter.organisation_id
        # Any of them: where one does not answer, the next try asks another.
        replica = replica_list_ready(model_id=self._adapter.base_id, org_id=owner).first()
        if replica is None:
            return self._wait(f"Waiting for a running engine of {base} to try the adapter on.")
        if not content_hash:
            try:
                content_hash = blob_store(adapter_id=self._adapter.id)
            except KindlingError:
                return self._wait("The server has no space left for the adapter; it is tried again soon.")
            if not self._note(content_hash):
                return False
        # A request may still have written to the upload after the first look; nobody writes to the copy.
        report = check_adapter_folder(blob_folder(content_hash), shape)
        check_extras(report, upload_folder(self._adapter.id), shape)
        if not report.ok:
            return self._store(report)
        try:
            verdict = engine_check(replica.url, content_hash)
        except EngineCheckUnreachable:
            return self._wait(f"The engine of {base} does not answer; the adapter is tried again soon.")
        except EngineCheckBroken:
            if self._count_break() < MAX_BREAKS:
                return self._wait(f"The engine of {base} stopped during the check; it is tried again soon.")
            report.findings.append(_broken_finding())
            return self._store(report)
        # The engine looks at the files too; what was said once is not said again.
        report.findings += [finding for finding in verdict.findings if finding not in report.findings]
        if not verdict.ok and report.ok:
            report.add("smoke", "fail", "The engine refused the adapter.", "Train it again and upload it.")
        if report.ok and (reason := self._keep(content_hash)):
            return self._wait(reason)
        return self._store(report, content_hash=content_hash, verdict=verdict)

    def _stored_before(self) -> str:
        """The hash of the copy that an earlier try has made; copying and reading gigabytes again gains nothing."""
        noted = self._adapter.content_hash
        # Whoever tidies this disk leaves alone what was touched a moment ago.
        blob_release(noted)
        return noted if noted and blob_folder(noted).is_dir() else ""

    def _note(self, content_hash: str) -> bool:
        return adapter_content_note(adapter_id=self._adapter.id, token=self._token, content_hash=content_hash)

    def _store(
        self, report: AdapterReport, *, content_hash: str = "", verdict: EngineVerdict | None = None
    ) -> bool:
        kept = report_json(report)
        if verdict:
            kept["smoke_text"] = verdict.smoke_text[:500]
        failed = next((finding for finding in report.findings if finding.level == "fail"), None)
        return adapter_validation_store(
            adapter_id=self._adapter.id,
            token=self._token,
            report=kept,
            content_hash=content_hash,
            error_code=failed.check if failed else "",
            error=f"{failed.message} {failed.fix}".strip() if failed else "",
        )

    def _wait(self, reason: str) -> bool:
        adapter_validation_postpone(adapter_id=self._adapter.id, token=self._token, reason=reason)
        return False

    def _keep(self, content_hash: str) -> str:
        """Why the files are not in the object store yet; nothing when they are, or when there is none."""
        try:
            blob_keep(content_hash)
        except StoreError as error:
            return _told_of(error)
        except OSError:
            return "The adapter's files cannot be read just now; it is tried again soon."
        return ""

    def _count_break(self) -> int:
        """How often the engine broke with this adapter; a count that Valkey loses only allows more tries."""
        key = f"kd:adapter-breaks:{self._adapter.id}"
        count = self._valkey.incr(key)
        self._valkey.expire(key, BREAKS_KEPT_S)
        return int(str(count))


def _told_of(error: StoreError) -> str:
    """For the adapter's owner, whom the operator's settings do not concern."""
    return STORE_AWAY if error.is_passing else STORE_REFUSES


def _broken_finding() -> Finding:
    return Finding(
        check="smoke",
        level="fail",
        message=f"The engine stopped {MAX_BREAKS} times while it loaded these files.",
        fix="Save the adapter again with PEFT and upload it under a new name; if it happens again, tell the operator.",
    )
