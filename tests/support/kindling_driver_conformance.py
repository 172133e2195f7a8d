"""What every driver must do; a test class inherits this and gives the driver and two powers over its engines."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest

from kindling_agent import eventually
from kindling_engine.protocol.replica import ReplicaSpec, ReplicaStatus
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_workers.drivers.base import Driver, DriverError, UsageSource

SPEC = ReplicaSpec(
    name="dep_conform-g1-r0",
    deployment_id="dep_conform",
    generation=1,
    model_path="/nowhere",
    model_ref="t/m",
)


@dataclass(slots=True)
class Bench:
    """A driver under test. `kill` ends an engine as a crash does, `write` has it log a record."""

    driver: Driver
    usage: UsageSource
    kill: Callable[[ReplicaStatus], None]
    write: Callable[[ReplicaStatus, UsageRecord], None]


def usage_record(request_id: str, **changes: object) -> UsageRecord:
    plain = UsageRecord(
        request_id=request_id, context="", tenant="", adapter="", prompt_tokens=10, cached_tokens=0,
        completion_tokens=5, finish="stop", started_ms=1_000, first_token_ms=1_010, finished_ms=1_050, replica="",
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


class DriverConformance:
    """The suite; subclasses provide the fixture `bench`."""

    def ready(self, bench: Bench, name: str = SPEC.name) -> ReplicaStatus:
        seen = eventually(lambda: bench.driver.observe(name), lambda now: now and now.state == "ready")
        assert seen is not None
        return seen

    def test_a_replica_becomes_ready(self, bench: Bench):
        first = bench.driver.ensure(SPEC)
        assert first.name == SPEC.name
        assert first.generation == 1

        status = self.ready(bench)
        assert status.pid
        assert status.url.startswith("http://")
        assert status.ready_ms is not None
        assert status.restarts == 0

    def test_ensuring_twice_starts_one_engine(self, bench: Bench):
        bench.driver.ensure(SPEC)
        pid = self.ready(bench).pid
        for _ in range(3):
            assert bench.driver.ensure(SPEC).pid == pid
        assert [status.name for status in bench.driver.replica_list()] == [SPEC.name]

    def test_a_newer_generation_replaces_the_engine(self, bench: Bench):
        bench.driver.ensure(SPEC)
        old = self.ready(bench)
        bench.driver.ensure(msgspec.structs.replace(SPEC, generation=2))
        new = self.ready(bench)
        assert (new.generation, len(bench.driver.replica_list())) == (2, 1)
        assert new.pid != old.pid

    def test_an_older_generation_is_refused(self, bench: Bench):
        bench.driver.ensure(msgspec.structs.replace(SPEC, generation=2))
        with pytest.raises(DriverError) as refusal:
            bench.driver.ensure(SPEC)
        assert refusal.value.code == "stale_generation"
        assert bench.driver.replica_list()[0].generation == 2

    def test_two_replicas_live_side_by_side(self, bench: Bench):
        other = msgspec.structs.replace(SPEC, name="dep_conform-g1-r1")
        bench.driver.ensure(SPEC)
        bench.driver.ensure(other)
        assert self.ready(bench).url != self.ready(bench, other.name).url
        bench.driver.delete(other.name)
        assert self.ready(bench).restarts == 0

    def test_a_killed_engine_returns_under_its_generation(self, bench: Bench):
        bench.driver.ensure(SPEC)
        before = self.ready(bench)
        bench.kill(before)
        eventually(lambda: bench.driver.observe(SPEC.name), lambda now: now and now.restarts == 1)
        after = self.ready(bench)
        assert (after.generation, after.restarts) == (1, 1)
        assert after.pid != before.pid

    def test_what_is_unknown_is_none_and_deleting_it_is_fine(self, bench: Bench):
        assert bench.driver.observe("dep_nobody-g1-r0") is None
        bench.driver.delete("dep_nobody-g1-r0")

    def test_a_deleted_replica_is_gone_and_may_be_deleted_again(self, bench: Bench):
        bench.driver.ensure(SPEC)
        self.ready(bench)
        bench.driver.delete(SPEC.name)
        bench.driver.delete(SPEC.name)
        assert bench.driver.observe(SPEC.name) is None
        assert bench.driver.replica_list() == []

    def test_usage_is_read_in_pages_from_any_offset(self, bench: Bench):
        bench.driver.ensure(SPEC)
        status = self.ready(bench)
        for number in range(5):
            bench.write(status, usage_record(f"request-{number}"))
        after, seen = 0, []
        for _ in range(3):
            page = bench.usage.usage_read(SPEC.name, after=after, limit=2)
            seen += [record.request_id for record in page.records]
            assert page.log_id
            after = page.next_offset
        assert seen == [f"request-{number}" for number in range(5)]
        again = bench.usage.usage_read(SPEC.name, after=after, limit=2)
        assert (again.records, again.next_offset) == ([], after)

    def test_usage_outlives_the_replica(self, bench: Bench):
        bench.driver.ensure(SPEC)
        bench.write(self.ready(bench), usage_record("last-words"))
        bench.driver.delete(SPEC.name)
        logs = {log.replica: log.size_bytes for log in bench.usage.usage_list()}
        assert logs[SPEC.name] > 0
        page = bench.usage.usage_read(SPEC.name, after=0, limit=10)
        assert [record.request_id for record in page.records] == ["last-words"]

    def test_a_usage_log_is_deleted_when_nobody_writes_it_and_it_was_read_to_its_end(self, bench: Bench):
        bench.driver.ensure(SPEC)
        bench.write(self.ready(bench), usage_record("booked"))
        (found,) = bench.usage.usage_list()
        assert not bench.usage.usage_delete(SPEC.name, size_bytes=found.size_bytes)
        bench.driver.delete(SPEC.name)
        (found,) = bench.usage.usage_list()
        assert not bench.usage.usage_delete(SPEC.name, size_bytes=found.size_bytes - 1)
        assert [log.replica for log in bench.usage.usage_list()] == [SPEC.name]
        for _ in range(2):
            assert bench.usage.usage_delete(SPEC.name, size_bytes=found.size_bytes)
        assert bench.usage.usage_list() == []
