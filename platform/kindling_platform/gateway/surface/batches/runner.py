"""Works through batches in this process: claims those that are due, and goes on with what others have left."""

import asyncio
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4
from weakref import WeakValueDictionary

from kindling_platform.batches.seal import Seal
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.auth import Keys
from kindling_platform.gateway.database import Database, DatabaseUnavailableError
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.surface.batches.call import ROOM_S, Serve
from kindling_platform.gateway.surface.batches.job import Job
from kindling_platform.gateway.surface.batches.lines import LineError
from kindling_platform.gateway.surface.batches.store import LEASE_S, Batch, LeaseLostError, WorkStore
from kindling_platform.gateway.surface.files.store import FileStore

LOOK_EVERY_S = 2.0
JOBS_AT_ONCE = 8
# Of one organisation: nobody's batches keep all others from beginning.
JOBS_EACH = 3
REQUESTS_EACH = 64
LAST_WORDS_S = 10.0


class BatchRunner:
    """The batches at work in this process; `wake` has it look at once."""

    def __init__(
        self,
        database: Database,
        files: FileStore,
        secret: str,
        *,
        keys: Keys,
        serve: Serve,
        log: Log,
        lease_s: float = LEASE_S,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._work = WorkStore(database, lease_s=lease_s)
        self._files = files
        self._seal = Seal(secret)
        self._keys = keys
        self._serve = serve
        self._log = log
        self._look_every_s = look_every_s
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._owners: Counter[str] = Counter()
        self._woken = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to look for work."""
        self._looking = asyncio.create_task(self._look())

    def wake(self) -> None:
        """There may be work."""
        self._woken.set()

    def cancelled(self, batch_id: str) -> None:
        """A batch is to end; another process hears of it at its next renewal."""
        if job := self._jobs.get(batch_id):
            job.cancel()
        self._woken.set()

    def drain(self) -> None:
        """Let go of everything, so that others can go on at once; the second call does nothing."""
        if self._looking is None:
            return
        self._looking.cancel()
        self._looking = None
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """The same, and wait until it is done."""
        self.drain()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_WORDS_S)

    async def _look(self) -> None:
        while True:
            try:
                while len(self._tasks) < JOBS_AT_ONCE and (batch := await self._claim()):
                    task = asyncio.create_task(self._run(batch))
                    self._tasks.add(task)
                    self._owners[batch.organisation_id] += 1
                    task.add_done_callback(partial(self._job_ended, batch.organisation_id))
            except DatabaseUnavailableError:
                self._log.debug("batches_not_looked_for")
            self._woken.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._look_every_s)

    async def _run(self, batch: Batch) -> None:
        job = Job(
            batch,
            work=self._work,
            files=self._files,
            seal=self._seal,
            keys=self._keys,
            serve=self._serve,
            turns=self._turns_of(batch.organisation_id),
            log=self._log,
        )
        self._jobs[batch.id] = job
        try:
            await job.run()
            if job.parked_s is not None:
                asyncio.get_running_loop().call_later(job.parked_s, self.wake)
        except asyncio.CancelledError:
            with suppress(DatabaseUnavailableError, LeaseLostError):
                await self._work.park(batch, waits_for="", wait_s=0)
            raise
        except (DatabaseUnavailableError, GatewayError) as error:
            # Whoever claims it when its lease has run out goes on where it stands.
            self._log.warning("batch_left", batch=batch.id, error=type(error).__name__)
        except Exception as error:
            self._log.error("batch_left", batch=batch.id, exc_info=error)
            with suppress(DatabaseUnavailableError, LeaseLostError):
                await self._leave(batch)
        finally:
            if self._jobs.get(batch.id) is job:
                del self._jobs[batch.id]

    async def _leave(self, batch: Batch) -> None:
        """It is tried again until its day is over."""
        if datetime.now(UTC) < batch.expires_at:
            await self._work.park(batch, waits_for="", wait_s=ROOM_S)
        else:
            errors = [LineError("internal_error", "Something went wrong on our side.").told()]
            await self._work.end(batch, "failed", errors=errors)

    async def _claim(self) -> Batch | None:
        full = [org_id for org_id, running in self._owners.items() if running >= JOBS_EACH]
        return await self._work.claim(uuid4(), full=full)

    def _turns_of(self, org_id: str) -> asyncio.Semaphore:
        """How many requests of an organisation may run at once, over all its batches here."""
        turns = self._turns.get(org_id)
        if turns is None:
            turns = self._turns[org_id] = asyncio.Semaphore(REQUESTS_EACH)
        return turns

    def _job_ended(self, org_id: str, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self._owners -= Counter([org_id])
        self._woken.set()
