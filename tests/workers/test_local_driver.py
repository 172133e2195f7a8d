"""The `local` driver against a real agent with real, tiny engine processes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kindling_agent import AgentProcess, eventually
from kindling_driver_conformance import SPEC, Bench, DriverConformance, usage_record
from kindling_engine.protocol.replica import ReplicaStatus
from kindling_engine.protocol.usage_log import UsageLogWriter, UsageRecord
from kindling_workers.drivers.base import DriverError, DriverUnreachable
from kindling_workers.drivers.local import LocalDriver
from kindling_workers.http import http_call


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    running = AgentProcess(tmp_path / "home")
    running.start()
    yield running
    running.stop()


def kill_engine(status: ReplicaStatus) -> None:
    assert status.pid
    os.kill(status.pid, signal.SIGKILL)


def write_record(status: ReplicaStatus, record: UsageRecord) -> None:
    fields = {**msgspec.to_builtins(record), "replica": status.name}
    assert http_call("POST", f"{status.url}/make", body=json.dumps(fields).encode()).status == 200


class TestLocalDriver(DriverConformance):
    @pytest.fixture
    def bench(self, agent: AgentProcess) -> Bench:
        return Bench(agent.driver, agent.driver, kill_engine, write_record)


def test_a_wrong_token_is_refused(agent: AgentProcess):
    with pytest.raises(DriverError) as refusal:
        LocalDriver(agent.url, "guess").replica_list()
    assert refusal.value.code == "invalid_token"


def test_a_log_that_goes_on_in_other_files_is_read_file_by_file(agent: AgentProcess):
    writer = UsageLogWriter(agent.home / "usage" / "dep_long-g1-r0.log", 100)
    for number in range(3):
        writer.append(usage_record(f"request-{number}"))
    writer.close()
    logs = agent.driver.usage_list()
    assert [log.replica for log in logs] == ["dep_long-g1-r0", "dep_long-g1-r0~2", "dep_long-g1-r0~3"]
    pages = [agent.driver.usage_read(log.replica, after=0, limit=10) for log in logs]
    assert [record.request_id for page in pages for record in page.records] == [
        f"request-{n}" for n in range(3)
    ]
    assert [page.next_offset for page in pages] == [log.size_bytes for log in logs]
    assert len({page.log_id for page in pages}) == 3
    assert agent.driver.usage_delete(logs[1].replica, size_bytes=logs[1].size_bytes)
    assert len(agent.driver.usage_list()) == 2
    with pytest.raises(DriverError):
        agent.driver.usage_delete("dep_long-g1-r0~", size_bytes=0)


def test_a_silent_agent_is_unreachable_which_is_not_gone(agent: AgentProcess):
    agent.kill()
    with pytest.raises(DriverUnreachable):
        agent.driver.observe(SPEC.name)


def test_a_killed_agent_brings_its_replicas_back(agent: AgentProcess):
    agent.driver.ensure(SPEC)
    eventually(lambda: agent.driver.observe(SPEC.name), lambda now: now and now.state == "ready")
    agent.kill()
    agent.start()
    status = eventually(lambda: agent.driver.observe(SPEC.name), lambda now: now and now.state == "ready")
    assert status is not None
    assert status.generation == 1
