"""One request between its start in the core and its usage record: a group of one or more choices."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from kindling_engine.protocol.headers import EngineHeaders
from kindling_engine.protocol.ipc import StepItem, Submit
from kindling_engine.protocol.usage_log import UsageLogError, UsageRecord
from kindling_engine.server.choice import CUT_BY_ADAPTER, Choice, Piece
from kindling_engine.server.core_link import CoreLink, CoreTicket
from kindling_engine.server.errors import ApiError
from kindling_engine.server.grants import GrantShares
from kindling_engine.server.usage import UsageBook, now_ms

DEADLINE_EXCEEDED = "deadline_exceeded"
Spawn = Callable[[Coroutine[Any, Any, None]], object]


@dataclass(frozen=True, slots=True)
class Start:
    """A choice and what the core is asked for it; the grant is set here."""

    choice: Choice
    submit: Submit


class Generation:
    """Feeds tokens into the texts of a request's choices, and writes exactly one usage record however it ends.

    The record is written before `advance` raises. Behind the last piece whoever tells the answer calls `record` once
    it is written and before it leaves, or `fail` where it cannot be. Whoever stops early calls `close`, which cancels
    in the core and records what was made.
    """

    def __init__(
        self,
        *,
        core: CoreLink,
        book: UsageBook,
        headers: EngineHeaders,
        starts: Sequence[Start],
        spawn: Spawn,
    ) -> None:
        self.id = headers.request
        self.started_ms = now_ms()
        self.choices = [start.choice for start in starts]
        self._open = {choice.id: choice for choice in self.choices}
        if headers.adapter:
            for choice in self.choices:
                choice.cut_by = CUT_BY_ADAPTER
        limits = [start.submit.max_tokens for start in starts]
        self._grants = GrantShares(limits, sum(limits) if headers.grant is None else headers.grant)
        self._recorded = False
        # For an answer that is not streamed, where nothing can be said before its end.
        self._turned = asyncio.Event()
        self._core = core
        self._book = book
        self._headers = headers
        self._spawn = spawn
        self._inbox = CoreTicket()
        self._submit([start.submit for start in starts])

    @property
    def ended(self) -> bool:
        """Whether no piece follows."""
        return not self._open

    @property
    def grant(self) -> int:
        return self._grants.total

    @property
    def prompt_tokens(self) -> int:
        """Tokens of every distinct prompt, once each; behind a stop, of those that the core had begun with."""
        if any(choice.stopped for choice in self.choices):
            return self._begun_tokens
        return sum(choices[0].prompt_tokens for choices in self._by_prompt())

    @property
    def _begun_tokens(self) -> int:
        """Of the prompt tokens, those of prompts that the core has begun with."""
        return sum(
            choices[0].prompt_tokens for choices in self._by_prompt() if any(one.admitted for one in choices)
        )

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that came out of the cache, for the choice of each prompt that found the fewest there."""
        return sum(
            min([one.cached_tokens for one in choices if one.first_token_ms] or [choices[0].cached_tokens])
            for choices in self._by_prompt()
        )

    @property
    def first_token_ms(self) -> int | None:
        """When the first token of any choice came, on this host's clock; None before it."""
        return min(
            (one.first_token_ms for one in self.choices if one.first_token_ms is not None), default=None
        )

    @property
    def completion_tokens(self) -> int:
        return sum(choice.completion_tokens for choice in self.choices)

    @property
    def reasoning_tokens(self) -> int:
        """Completion tokens that were reasoning."""
        return sum(choice.reasoning_tokens for choice in self.choices)

    async def advance(self) -> list[Piece]:
        """What is new, as soon as the core has made a step. Errors: whatever ended the request; `deadline_exceeded`."""
        touched: dict[int, Choice] = {}
        for item in await self._inbox.take():
            choice = self._open.get(item.id)
            if choice is None:
                continue
            self._observe(choice, item)
            try:
                stopped = choice.accept(item)
            except ApiError:
                self._fail()
                raise
            touched[choice.index] = choice
            self._grants.shares[choice.index].made = choice.completion_tokens
            if choice.finish:
                self._finish(choice, tell_core=stopped)
        if self.ended and not any(choice.admitted or not choice.stopped for choice in self.choices):
            self._fail()
            raise ApiError(504, DEADLINE_EXCEEDED, "The request was stopped before it had begun.")
        self._top_up()
        pieces = [choice.take() for choice in touched.values()]
        if self.ended:
            self._turned.set()
        return pieces

    def record(self) -> None:
        """Write the record of a request that has ended; once. Errors: `usage_not_recorded`."""
        self._record(self._joint_finish())

    def extend(self, tokens: int) -> int:
        """Raise the grant to a new total, never lower it; returns the total that holds now."""
        if tokens > self._grants.total:
            self._turned.clear()
        self._grants.extend(tokens)
        self._top_up()
        return self._grants.total

    def take_notice(self) -> int | None:
        """The tokens made so far, once per grant, when its end is near and more could be made."""
        return self._grants.take_notice()

    def leave_notice(self) -> None:
        """Have `wait_short` return, once per grant, when its end is near and more could be made."""
        if self.take_notice() is not None:
            self._turned.set()

    async def wait_short(self) -> bool:
        """Wait for a notice that was left, or for the request's end; False at the end."""
        await self._turned.wait()
        return not self.ended

    def stop(self) -> int:
        """End every open choice where it is, as if its length were reached; returns the tokens made so far.

        What the core has made beyond that is not waited for, and not counted. Of a choice that has said nothing yet,
        only the core knows whether it has begun: one that has not costs nothing, and a request of which nothing has
        begun ends in 504 `deadline_exceeded`.
        """
        for choice_id, choice in self._open.items():
            if choice.admitted:
                self._drop(choice_id)
                self._inbox.push(StepItem(choice_id, finish="length"))
            else:
                choice.stopped = True
                self._core.cancel(choice_id)
        return self.completion_tokens

    def close(self) -> None:
        """End a request that nobody waits for any more; does nothing behind its record."""
        if not self._recorded:
            self.abort()
            self._spawn(self._settle("cancelled"))

    def fail(self) -> None:
        """End a request whose answer we fail to tell: it costs nothing. Does nothing behind its record."""
        if not self._recorded:
            self._fail()

    def abort(self) -> None:
        """End a request because we have to stop: that is a failure of ours, and `advance` raises it."""
        for choice_id in self._open:
            self._core.cancel(choice_id)

    def _observe(self, choice: Choice, item: StepItem) -> None:
        if item.token_ids and (since_s := choice.since_last_s(time.monotonic())) is not None:
            self._book.metrics.observe_tokens(since_s, len(item.token_ids))

    def _submit(self, submits: list[Submit]) -> None:
        """Start all choices or none. Errors: `duplicate_request`, `engine_unavailable`."""
        for submit, share in zip(submits, self._grants.shares, strict=True):
            submit.grant = share.tokens
            try:
                self._core.submit(submit, self._inbox)
            except ApiError:
                for started in submits[: submits.index(submit)]:
                    self._drop(started.id)
                raise

    def _finish(self, choice: Choice, *, tell_core: bool) -> None:
        del self._open[choice.id]
        self._grants.end(choice.index)
        if tell_core:
            self._drop(choice.id)

    def _drop(self, choice_id: str) -> None:
        self._core.cancel(choice_id)
        self._core.forget(choice_id)

    def _top_up(self) -> None:
        for index, tokens in self._grants.top_up():
            self._core.grant(self.choices[index].id, tokens)

    def _fail(self) -> None:
        for choice_id in self._open:
            self._drop(choice_id)
        self._open.clear()
        self._record("error")

    async def _settle(self, finish: str) -> None:
        """Wait for the core's last words, so that the record counts every token that was made."""
        while self._open and not self._recorded:
            for item in await self._inbox.take():
                choice = self._open.get(item.id)
                if choice is None:
                    continue
                stopped = choice.count(item)
                if stopped or item.finish:
                    failed = item.finish == "error" and item.error_code not in choice.cut_by and not stopped
                    finish = "error" if failed else finish
                    self._finish(choice, tell_core=not item.finish)
        self._record(finish)

    def _by_prompt(self) -> list[list[Choice]]:
        groups: dict[tuple[int, ...], list[Choice]] = {}
        if len(self.choices) == 1:
            return [self.choices]
        for choice in self.choices:
            groups.setdefault(tuple(choice.prompt.ids), []).append(choice)
        return list(groups.values())

    def _joint_finish(self) -> str:
        """The finish of the request as a whole: the one that says most about why there is no more text."""
        found = {choice.finish for choice in self.choices}
        return next((finish for finish in ("grant_refused", "length") if finish in found), "stop")

    def _record(self, finish: str) -> None:
        """Write the record. A record that cannot be written is a failure of ours, so the caller gets no answer."""
        if self._recorded:
            return
        self._recorded = True
        self._turned.set()
        record = UsageRecord(
            request_id=self.id,
            context=self._headers.context,
            tenant=self._headers.tenant,
            adapter=self._headers.adapter,
            prompt_tokens=self._begun_tokens if finish == "cancelled" else self.prompt_tokens,
            cached_tokens=self.cached_tokens,
            completion_tokens=self.completion_tokens,
            finish=finish,
            started_ms=self.started_ms,
            first_token_ms=self.first_token_ms,
            finished_ms=now_ms(),
            replica=self._book.replica,
            reasoning_tokens=self.reasoning_tokens,
        )
        try:
            self._book.append(record)
        except UsageLogError as error:
            raise ApiError(500, "usage_not_recorded", "The engine could not record this request.") from error
