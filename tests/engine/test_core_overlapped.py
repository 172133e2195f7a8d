"""Steps that overlap by one: what is planned ahead, what is thrown away, and when blocks come back."""

import logging
import weakref

import pytest
import torch

from kindling_engine.scheduler.request import Request, RequestState
from kindling_late_runner import Late, LateRunner


def _request(name: str, prompt: int = 8, *, first: int = 1, max_tokens: int = 6, grant: int = 99, **more):
    return Request(
        id=name, tokens=[first + i for i in range(prompt)], max_tokens=max_tokens, grant=grant, **more
    )


def _under_way(world: Late) -> list[str]:
    return [row.request.id for step in world.runner.under_way for row in step.plan.rows]


def test_the_next_step_is_under_way_when_one_is_booked():
    world = Late()
    world.add(_request("a", max_tokens=3))
    world.step()
    assert len(world.made["a"]) == 1 and _under_way(world) == ["a"]
    world.step()
    assert len(world.made["a"]) == 2 and _under_way(world) == ["a"]
    world.step()
    assert world.ended["a"].finish == "length" and _under_way(world) == []
    assert len(world.plans) == 3, "a request that ends by its length is computed no further"


def test_a_stop_is_known_a_step_late_and_its_blocks_come_back_then():
    world = Late(max_batch=1)
    request = world.add(_request("a", 16, stop_ids=frozenset(range(1000))))
    world.step()
    assert world.ended["a"].finish == "stop" and len(world.made["a"]) == 1
    assert _under_way(world) == ["a"] and request.table.blocks == []
    assert world.kv.pool.free_count == world.kv.pool.capacity - 2
    assert world.scheduler.has_work, "the step has to be booked yet"
    world.drain()
    assert len(world.made["a"]) == 1
    world.assert_nothing_is_held()


def test_a_cancel_takes_effect_before_the_next_launch():
    world = Late()
    world.add(_request("a", max_tokens=50))
    world.add(_request("b", first=200, max_tokens=50))
    world.step()
    world.cancel("a")
    world.step()
    assert _under_way(world) == ["b"]
    made = len(world.made["a"])
    world.step()
    assert len(world.made["a"]) == made
    world.cancel("b")
    world.drain()
    world.assert_nothing_is_held()


def test_a_row_that_needs_its_last_token_runs_every_other_step():
    world = Late()
    world.add(_request("free", max_tokens=8))
    world.add(_request("bound", first=300, max_tokens=4, waits_for_token=True))
    world.drain()
    with_bound = [any(row.request.id == "bound" for row in plan.rows) for plan in world.plans]
    assert with_bound == [True, False] * 4


def test_nothing_is_planned_beyond_a_grant_and_a_late_one_goes_on():
    world = Late()
    request = world.add(_request("a", max_tokens=6, grant=2))
    world.step()
    assert _under_way(world) == ["a"]
    world.step()
    assert request.state is RequestState.PARKED and _under_way(world) == []
    world.scheduler.grant("a", 6, world.now_s)
    world.drain()
    assert len(world.made["a"]) == 6


def test_a_grant_that_comes_in_time_holds_nothing_up():
    world = Late()
    request = world.add(_request("a", max_tokens=6, grant=2))
    world.step()
    world.scheduler.grant("a", 6, world.now_s)
    world.step()
    assert request.state is RequestState.RUNNING and _under_way(world) == ["a"]


def test_one_victim_is_enough_though_its_blocks_come_a_step_late():
    world = Late(num_blocks=7, max_batch=3, step_tokens=100)
    for name, first in (("a", 1), ("b", 200), ("c", 400)):
        world.add(_request(name, 30, first=first, max_tokens=9))
        world.now_s += 0.001
    while not world.scheduler.preemptions:
        world.step()
    world.step()
    assert world.scheduler.preemptions == 1
    world.drain()
    assert {name: len(tokens) for name, tokens in world.made.items()} == dict.fromkeys("abc", 9)
    world.assert_nothing_is_held()


def test_a_prompt_is_shared_once_it_is_booked_and_not_before():
    world = Late(num_blocks=30, max_batch=8, step_tokens=200)
    for name in "ab":
        world.add(_request(name, 40, max_tokens=4))
    world.step()
    assert "b" not in world.made and not world.ended
    world.drain()
    assert world.ended["b"].request.cached_tokens == 32
    assert world.made["a"] == world.made["b"]


@pytest.mark.parametrize("launch", [True, False], ids=["at its launch", "later"])
def test_a_step_that_fails_is_run_again_row_by_row(launch, caplog):
    caplog.set_level(logging.CRITICAL)
    world, calm = Late(), Late()
    for one in (world, calm):
        one.add(_request("a", max_tokens=9))
        one.add(_request("b", first=200, max_tokens=9))
        one.step()
        one.step()
    world.fail("b", launch=launch, hopeless=False)
    for one in (world, calm):
        one.drain()
    assert world.made == calm.made and len(world.made["a"]) == 9
    world.assert_nothing_is_held()


@pytest.mark.parametrize("launch", [True, False], ids=["at its launch", "later"])
def test_a_row_that_fails_alone_ends_alone(launch, caplog):
    caplog.set_level(logging.CRITICAL)
    world = Late()
    world.add(_request("a", max_tokens=9))
    world.add(_request("b", first=200, max_tokens=9))
    world.step()
    world.fail("b", launch=launch, hopeless=True)
    world.drain()
    assert world.ended["b"].error_code == "engine_step_failed"
    assert world.ended["a"].finish == "length" and len(world.made["a"]) == 9
    world.assert_nothing_is_held()


@pytest.mark.parametrize("launch", [True, False], ids=["at its launch", "later"])
def test_what_a_failed_step_had_computed_is_gone_when_its_rows_run_again(launch, caplog, monkeypatch):
    """It may have failed for want of that memory."""
    caplog.set_level(logging.CRITICAL)
    world = Late()
    world.add(_request("a", max_tokens=9))
    world.add(_request("b", first=200, max_tokens=9))
    world.step()
    fail, computed, alive = LateRunner._fail, [], []

    def watched(runner, plan, request_id):
        alive.append(any(one() is not None for one in computed))
        own = torch.zeros(1)
        computed.append(weakref.ref(own))
        fail(runner, plan, request_id)

    monkeypatch.setattr(LateRunner, "_fail", watched)
    world.fail("b", launch=launch, hopeless=False)
    world.drain()
    assert len(world.made["b"]) == 9 and len(alive) > 9
    assert not any(alive)


def test_blocks_that_a_step_under_way_may_spoil_are_scrubbed_before_reuse():
    world = Late(step_tokens=20)
    world.add(_request("b", 4, first=200, max_tokens=30))
    world.step()
    request = world.add(_request("a", 50, adapter="x"))
    world.step()
    blocks = set(request.table.blocks)
    assert _under_way(world) == ["b", "a"]
    world.cancel("a")
    world.step()
    scrubbed: set[int] = set()
    for _ in range(3):
        scrubbed |= set(world.step().scrub)
    assert scrubbed == blocks
