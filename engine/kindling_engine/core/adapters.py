"""Requests and messages that wait for an adapter, kept out of the scheduler until it is in memory."""

import re
from collections.abc import Callable
from pathlib import Path

from kindling_engine.core.adapter_users import AdapterUsers
from kindling_engine.core.smoke import SmokeTest
from kindling_engine.core.startup import Parts
from kindling_engine.core.tickets import LoadTicket
from kindling_engine.lora.cache import Settled
from kindling_engine.lora.errors import AdapterError
from kindling_engine.protocol.findings import Finding
from kindling_engine.protocol.ipc import (
    AdapterChanged,
    AdapterList,
    AdapterLoaded,
    AdapterState,
    ListAdapters,
    LoadAdapter,
    PinAdapter,
    ToFront,
    UnloadAdapter,
)
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request, RequestState

# The adapter's name becomes a folder below the blobs.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


class AdapterDesk:
    """Between front and cache: holds what waits, pins for what runs, answers LoadAdapter and ListAdapters."""

    def __init__(
        self,
        parts: Parts,
        *,
        blobs: Path,
        send: Callable[[ToFront], None],
        admit: Callable[[Request, float], None],
    ) -> None:
        self._cache = parts.adapters
        self._scheduler = parts.scheduler
        self._users = AdapterUsers(parts.scheduler, release=self._cache.release, queue=self._again)
        self._device = parts.device
        self._vocab_size = parts.config.vocab_size
        self._blobs = blobs
        self._send = send
        self._admit = admit
        self._pending: dict[str, Request] = {}
        self._held: dict[str, Request] = {}
        parts.kv.loans.borrower = self

    @property
    def stepped_back(self) -> int:
        """Times that a request gave its adapter's room to another."""
        return self._users.stepped_back

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def waiting(self) -> bool:
        return self._cache.waiting > 0

    def submit(self, request: Request, now_s: float) -> Outcome | None:
        """Admit a request whose adapter is in memory and hold any other back; an outcome is a refusal."""
        if not _NAME.fullmatch(request.adapter):
            return _ended(request, "error", "adapter_load_failed", "The adapter's name is not valid.")
        if request.id in self._pending:
            return _ended(request, "error", "duplicate_request", "A request with this id is already waiting.")
        if self._cache.acquire(request.adapter, self._blobs / request.adapter, request, now_s):
            self._pinned(request, now_s, waited_s=0.0)
        else:
            self._pending[request.id] = request
        return None

    def grant(self, request_id: str, tokens: int) -> None:
        request = self._pending.get(request_id)
        if request is not None:
            request.grant = max(request.grant, tokens)

    def cancel(self, request_id: str) -> Outcome | None:
        """End a request that still waits for its adapter."""
        request = self._pending.pop(request_id, None)
        if request is None:
            return None
        self._cache.withdraw(request)
        return _ended(request, "cancelled")

    def release(self, request: Request) -> None:
        """Unpin the adapter of a request that has ended."""
        if self._held.pop(request.id, None) is not None:
            self._cache.withdraw(request)
        self._users.remove(request)

    def load(self, message: LoadAdapter, now_s: float) -> None:
        ticket = LoadTicket(message.id, message.adapter, message.check)
        if not _NAME.fullmatch(message.adapter):
            self._loaded(ticket, AdapterError("files", "The adapter's name is not valid."), now_s)
            return
        folder = Path(message.path) if message.path else self._blobs / message.adapter
        if self._cache.acquire(message.adapter, folder, ticket, now_s):
            self._loaded(ticket, None, now_s)

    def change(self, message: PinAdapter | UnloadAdapter) -> None:
        """Pin, unpin or unload an adapter."""
        if isinstance(message, PinAdapter):
            found = self._cache.keep(message.adapter, message.pinned)
        else:
            found = self._cache.unload(message.adapter)
        self._send(AdapterChanged(message.id, message.adapter, found))

    def report(self, message: ListAdapters) -> None:
        top = "device" if self._device.type == "cuda" else "host"
        items = [
            AdapterState(
                adapter=place.adapter,
                state=place.state,
                tier=top if place.tier == "top" else place.tier,
                rank=0 if place.loaded is None else place.loaded.weights.rank,
                size_bytes=0 if place.loaded is None else place.loaded.weights.size_bytes,
                in_use=place.pins,
                pinned=place.kept,
                borrowed_blocks=place.borrowed_blocks,
                reason=place.reason,
            )
            for place in self._cache.places()
        ]
        self._send(AdapterList(message.id, items))

    def recall(self, count: int) -> int:
        """Give blocks back to requests: those of adapters that nobody uses, then of those whose users step back."""
        count -= self._cache.recall(count)
        due = 0
        for adapter in self._cache.borrowers():
            if due >= count:
                break
            if self._users.send_away(adapter, self._cache.uses(adapter)):
                self._cache.vacate(adapter)
                due += self._cache.borrowed_blocks(adapter)
        return due

    def poll(self, now_s: float) -> list[Outcome]:
        """Move what has its adapter now; the outcomes are those of requests whose adapter failed to load."""
        if not self._cache.waiting and not self._users.leaving:
            return []
        refused = self._take(self._cache.poll(now_s), now_s)
        cache = self._cache
        if self._users.make_room(cache.lacks_room, cache.size_bytes, newcomers=bool(self._pending)):
            # What was read already takes the room now, and is there for the next step.
            refused += self._take(cache.poll(now_s), now_s)
        return refused

    def _take(self, settled: list[Settled], now_s: float) -> list[Outcome]:
        refused = []
        for one in settled:
            if isinstance(one.ticket, LoadTicket):
                self._loaded(one.ticket, one.error, now_s)
            elif isinstance(one.ticket, Request):
                refused.extend(self._settle(one.ticket, one, now_s))
        return refused

    def _again(self, request: Request) -> None:
        """Queue a request that has stepped back for its adapter."""
        self._held[request.id] = request
        self._cache.queue(request.adapter, self._blobs / request.adapter, request)

    def _settle(self, request: Request, settled: Settled, now_s: float) -> list[Outcome]:
        if self._held.pop(request.id, None) is not None:
            return self._resume(request, settled, now_s)
        del self._pending[request.id]
        if settled.error is not None:
            return [_ended(request, "error", "adapter_load_failed", settled.error.message)]
        # Never 0, which says that nothing had to be waited for.
        self._pinned(request, now_s, waited_s=max(1e-6, now_s - request.arrived_s))
        return []

    def _pinned(self, request: Request, now_s: float, *, waited_s: float) -> None:
        request.adapter_wait_s = waited_s
        self._users.add(request)
        self._admit(request, now_s)

    def _resume(self, request: Request, settled: Settled, now_s: float) -> list[Outcome]:
        if settled.error is not None:
            outcome = self._scheduler.fail(request.id, "adapter_load_failed", settled.error.message)
            return [] if outcome is None else [outcome]
        self._users.add(request)
        self._scheduler.resume(request.id, now_s)
        return []

    def _loaded(self, ticket: LoadTicket, error: AdapterError | None, now_s: float) -> None:
        if error is not None:
            finding = Finding(error.code, "fail", error.message, error.fix)
            self._send(AdapterLoaded(ticket.id, ticket.adapter, False, error.code, error.message, [finding]))
            return
        loaded = self._cache.get(ticket.adapter)
        findings = [] if loaded is None else list(loaded.findings)
        if not ticket.check:
            self._cache.release(ticket.adapter)
            self._send(AdapterLoaded(ticket.id, ticket.adapter, True, findings=findings))
            return

        def done(smoke: list[Finding], smoke_ids: list[int]) -> None:
            self._cache.release(ticket.adapter)
            failed = next((finding for finding in smoke if finding.level == "fail"), None)
            self._send(
                AdapterLoaded(
                    id=ticket.id,
                    adapter=ticket.adapter,
                    ok=failed is None,
                    code="" if failed is None else failed.check,
                    reason="" if failed is None else failed.message,
                    findings=findings + smoke,
                    smoke_ids=smoke_ids,
                )
            )

        test = SmokeTest(
            ticket_id=ticket.id,
            adapter=ticket.adapter,
            vocab_size=self._vocab_size,
            now_s=now_s,
            done=done,
        )
        self._admit(test.base, now_s)
        self._admit(test.adapted, now_s)


def _ended(request: Request, finish: str, code: str = "", message: str = "") -> Outcome:
    request.state = RequestState.ENDED
    return Outcome(request, None, finish, error_code=code, error=message)  # type: ignore[arg-type]
