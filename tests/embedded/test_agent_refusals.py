"""Engines that refuse their model: not started again for nothing, and again when there is a reason to."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kindling_engine.protocol.replica import ReplicaSpec
from kindling_platform.embedded.ports import hold_port
from kindling_workers.agent import replica
from kindling_workers.agent.model_files import model_files
from kindling_workers.agent.places import Places
from kindling_workers.agent.replica import Replica

ENGINE = Path(__file__).parents[1] / "support" / "kindling_tiny_engine.py"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


async def test_an_engine_that_refuses_its_model_is_not_started_again_before_the_files_change(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    looks: list[str] = []
    monkeypatch.setattr(replica, "MODEL_LOOKED_AT_EVERY_S", 0)
    monkeypatch.setattr(replica, "model_files", lambda folder: looks.append(folder) or model_files(folder))
    (tmp_path / "logs").mkdir()
    (model / "mode").write_text("reject")
    hold = hold_port()
    spec = ReplicaSpec("r", "d", 1, str(model), "m")
    one = Replica(spec, Places(tmp_path), hold, (sys.executable, str(ENGINE)), 1.0)
    one.start()
    async with asyncio.timeout(60):
        while len(looks) < 50:
            await asyncio.sleep(0.01)
        failed = one.status()
        assert (failed.state, failed.restarts, failed.reason) == ("failed", 0, "The model is broken.")
        (model / "mode").unlink()
        while one.status().state != "ready":
            await asyncio.sleep(0.01)
    assert one.status().restarts == 1
    await one.stop()
    hold.release()


async def test_a_model_that_was_refused_is_tried_again_now_and_then(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    """A disk or a device may have been at fault, and nothing in the folder changes then."""
    monkeypatch.setattr(replica, "MODEL_LOOKED_AT_EVERY_S", 0)
    monkeypatch.setattr(replica, "REFUSED_AGAIN_S", 0.2)
    monkeypatch.setattr(replica, "model_files", lambda _: frozenset())
    (tmp_path / "logs").mkdir()
    (model / "mode").write_text("reject")
    hold = hold_port()
    one = Replica(
        ReplicaSpec("r", "d", 1, str(model), "m"), Places(tmp_path), hold, (sys.executable, str(ENGINE)), 1.0
    )
    one.start()
    async with asyncio.timeout(60):
        while one.status().restarts < 2:
            await asyncio.sleep(0.01)
        (model / "mode").unlink()
        while one.status().state != "ready":
            await asyncio.sleep(0.01)
    assert one.status().restarts >= 2 and one.status().reason == ""
    await one.stop()
    hold.release()


def test_a_models_files_are_told_apart_by_name_size_and_time(model: Path):
    def look(work: Callable[[], object]) -> bool:
        before = model_files(str(model))
        work()
        return model_files(str(model)) != before

    assert not look(lambda: None)
    assert look((model / "a").touch) and look(lambda: (model / "a").write_text("x"))
    assert look(lambda: os.utime(model / "a", (1, 1)))
    assert look(lambda: (model / "b").symlink_to(model / "c")) and look((model / "c").touch)
    assert look(lambda: (model / "a").chmod(0o600)) and look((model / "1_Pooling").mkdir)
    assert look(lambda: (model / "1_Pooling/config.json").write_text("{}"))
    assert model_files(str(model / "nowhere")) == frozenset()
