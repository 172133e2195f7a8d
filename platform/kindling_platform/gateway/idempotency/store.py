"""Rows of idempotent requests: who may run, what was answered. One statement each, so that nothing is half done."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kindling_platform.gateway.database import Database

LEASE_S = 60
KEPT_S = 24 * 3600
# One statement, whoever comes at the same time: the row is ours if it is new, if its day is over, or if its process has
# died. What it was before is what the statement's own snapshot shows.
ENTER = (
    "WITH before AS (SELECT request_id, earlier, status, fingerprint, answer,"
    " status = 0 AND leased_until < now() AS died, expires_at < now() AS over"
    " FROM usage_idempotentreply WHERE digest = %(digest)s),"
    " entered AS (INSERT INTO usage_idempotentreply AS one"
    " (digest, organisation_id, fingerprint, request_id, earlier, status, leased_until, expires_at)"
    " VALUES (%(digest)s, %(org)s, %(fingerprint)s, %(request)s, '{}', 0,"
    " now() + make_interval(secs => %(lease_s)s), now() + make_interval(secs => %(kept_s)s))"
    " ON CONFLICT (digest) DO UPDATE SET request_id = excluded.request_id, fingerprint = excluded.fingerprint,"
    " status = 0, answer = NULL, leased_until = excluded.leased_until, expires_at = excluded.expires_at,"
    " earlier = CASE WHEN one.status = 0 THEN one.earlier || one.request_id ELSE '{}' END"
    " WHERE (one.status = 0 AND one.leased_until < now() AND one.fingerprint = excluded.fingerprint)"
    " OR (one.expires_at < now() AND (one.status <> 0 OR one.leased_until < now()))"
    " RETURNING one.earlier)"
    " SELECT entered.earlier AS taken, before.* FROM (SELECT 1) AS always"
    " LEFT JOIN entered ON true LEFT JOIN before ON true"
)
KEEP = (
    "UPDATE usage_idempotentreply SET status = %(status)s, answer = %(answer)s,"
    " expires_at = now() + make_interval(secs => %(kept_s)s)"
    " WHERE digest = %(digest)s AND request_id = %(request)s AND status = 0 RETURNING digest"
)
RENEW = (
    "UPDATE usage_idempotentreply SET leased_until = now() + make_interval(secs => %(lease_s)s)"
    " WHERE digest = %(digest)s AND request_id = %(request)s AND status = 0 RETURNING digest"
)
MOVE = (
    "UPDATE usage_idempotentreply SET request_id = %(moved)s, earlier = earlier || request_id"
    " WHERE digest = %(digest)s AND request_id = %(request)s AND status = 0 RETURNING digest"
)
LEAVE = (
    "DELETE FROM usage_idempotentreply WHERE digest = %(digest)s AND request_id = %(request)s AND status = 0"
    " RETURNING digest"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What was found at the entry: may we run, and after which attempts; else what stands there."""

    mine: bool
    earlier: tuple[UUID, ...] = ()
    request_id: UUID | None = None
    status: int = 0
    fingerprint: bytes = b""
    answer: bytes = b""


class ReplyStore:
    """Errors of every method: DatabaseUnavailableError."""

    def __init__(self, database: Database, *, lease_s: float = LEASE_S, kept_s: float = KEPT_S) -> None:
        self._database = database
        self.lease_s = lease_s
        self._kept_s = kept_s

    async def enter(self, *, digest: bytes, org_id: str, fingerprint: bytes, request_id: UUID) -> Entry:
        """Take the row of a key for a request, or learn what is there."""
        values = {"digest": digest, "org": org_id, "fingerprint": fingerprint, "request": request_id}
        row = (await self._database.rows(ENTER, values | self._times()))[0]
        if row["taken"] is not None:
            return Entry(mine=True, earlier=tuple(row["taken"]))
        if row["request_id"] is None:  # it was made while we asked, so somebody runs it
            return Entry(mine=False, fingerprint=fingerprint)
        return Entry(
            mine=False,
            request_id=row["request_id"],
            status=row["status"],
            fingerprint=bytes(row["fingerprint"]),
            answer=bytes(row["answer"] or b""),
        )

    async def keep(self, *, digest: bytes, request_id: UUID, status: int, answer: bytes) -> bool:
        """Keep the answer; False when the row is not this request's any more."""
        return await self._run(KEEP, digest, request_id, status=status, answer=answer)

    async def renew(self, *, digest: bytes, request_id: UUID) -> bool:
        """Go on running."""
        return await self._run(RENEW, digest, request_id)

    async def move(self, *, digest: bytes, request_id: UUID, moved: UUID) -> bool:
        """Go on running under another id; the first one is free from now on."""
        return await self._run(MOVE, digest, request_id, moved=moved)

    async def leave(self, *, digest: bytes, request_id: UUID) -> bool:
        """Forget a request that has no answer to keep."""
        return await self._run(LEAVE, digest, request_id)

    async def _run(self, query: str, digest: bytes, request_id: UUID, **values: Any) -> bool:
        every = {"digest": digest, "request": request_id, **values, **self._times()}
        return bool(await self._database.rows(query, every))

    def _times(self) -> dict[str, float]:
        return {"lease_s": self.lease_s, "kept_s": self._kept_s}
