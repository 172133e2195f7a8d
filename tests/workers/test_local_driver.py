"""The `local` driver against a real agent with real, tiny engine processes."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kindling_agent import AgentProcess, eventually
from kindling_driver_conformance import SPEC, Bench, DriverConformance
from kindling_engine.protocol.replica import ReplicaStatus
from kindling_engine.protocol.usage_log import UsageRecord
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
