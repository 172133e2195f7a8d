"""Single decisions of the scheduler."""

import sys
from zlib import crc32

import pytest

from kindling_engine.scheduler.request import Request, RequestState
from kindling_schedules import Pretended


def _request(
    name: str, prompt: int | list[int] = 8, *, max_tokens: int = 4, grant: int = 99, **more
) -> Request:
    tokens = (
        prompt
        if isinstance(prompt, list)
        else [crc32(f"{name}{i}".encode()) % 1000 + 1 for i in range(prompt)]
    )
    return Request(id=name, tokens=list(tokens), max_tokens=max_tokens, grant=grant, **more)


def test_runs_a_request_to_its_length():
    world = Pretended()
    world.add(_request("a", max_tokens=3))
    world.drain()
    assert world.ended["a"].finish == "length" and len(world.made["a"]) == 3


def test_refuses_a_prompt_that_leaves_no_room():
    world = Pretended(context_length=32)
    world.add(_request("a", 32))
    assert world.ended["a"].error_code == "context_length_exceeded"
    world.add(_request("b", 31, max_tokens=9))
    world.drain()
    assert world.ended["b"].finish == "length" and len(world.made["b"]) == 1


def test_the_pool_bounds_the_context_too():
    assert Pretended(num_blocks=3, context_length=500).scheduler.max_length == 32


def test_refuses_an_id_that_runs():
    world = Pretended()
    world.add(_request("a"))
    outcome = world.scheduler.add(_request("a"), 0.0)
    assert outcome is not None and outcome.error_code == "duplicate_request"


def test_decodes_come_first_and_long_prompts_in_chunks():
    world = Pretended(step_tokens=20)
    world.add(_request("a", 8, max_tokens=20))
    world.step()
    world.add(_request("b", 50))
    plan = world.step()
    assert [(row.request.id, row.count, row.samples) for row in plan.rows] == [
        ("a", 1, True),
        ("b", 19, False),
    ]
    assert [row.count for row in world.step().rows] == [1, 19]
    assert [(row.count, row.samples) for row in world.step().rows] == [(1, True), (12, True)]


def test_preempts_the_latest_and_finishes_everything():
    world = Pretended(num_blocks=7, max_batch=3, step_tokens=100)
    for name in "abc":
        world.add(_request(name, 20, max_tokens=40))
        world.now_s += 0.001
    world.drain()
    assert {name: len(tokens) for name, tokens in world.made.items()} == dict.fromkeys("abc", 40)
    released = [request_id for plan in world.plans for request_id in plan.released]
    assert released.count("a") == 1, "the oldest is never preempted, only released at its end"
    assert released.count("b") + released.count("c") > 1
    world.assert_nothing_is_held()


def test_stops_at_a_stop_token_but_not_before_min_tokens():
    world = Pretended()
    everything = frozenset(range(1000))
    world.add(_request("a", stop_ids=everything))
    world.add(_request("b", stop_ids=everything, min_tokens=3))
    world.drain()
    assert (world.ended["a"].finish, len(world.made["a"])) == ("stop", 1)
    assert (world.ended["b"].finish, len(world.made["b"])) == ("stop", 3)


def test_parks_at_the_grant_and_goes_on_when_it_is_raised():
    world = Pretended()
    request = world.add(_request("a", max_tokens=6, grant=2))
    world.step()
    world.step()
    assert request.state is RequestState.PARKED and not world.scheduler.has_work
    held = len(request.table.blocks)
    world.scheduler.grant("a", 2, world.now_s)
    assert request.state is RequestState.PARKED and held
    world.scheduler.grant("a", 6, world.now_s)
    plan = world.step()
    assert plan.rows[0].count == 1, "a resumed request keeps its cache"
    world.drain()
    assert world.ended["a"].finish == "length" and len(world.made["a"]) == 6


def test_a_grant_that_does_not_come_ends_the_request():
    world = Pretended()
    world.add(_request("a", max_tokens=6, grant=1))
    world.step()
    assert world.scheduler.expire(world.now_s + 1.9) == []
    (outcome,) = world.scheduler.expire(world.now_s + 2.1)
    assert outcome.finish == "grant_refused"
    world.assert_nothing_is_held()


def test_a_grant_of_nothing_computes_nothing():
    world = Pretended()
    world.add(_request("a", grant=0))
    assert world.step() is None
    world.scheduler.grant("a", 4, world.now_s)
    world.drain()
    assert world.ended["a"].finish == "length"


def test_parked_requests_give_way_when_blocks_run_out():
    world = Pretended(num_blocks=5, context_length=64, step_tokens=100)
    parked = world.add(_request("a", 40, max_tokens=9, grant=1))
    world.step()
    assert parked.state is RequestState.PARKED
    world.add(_request("b", 40, max_tokens=2))
    world.step()
    assert parked.table.blocks == [] and world.made["b"]
    world.scheduler.grant("a", 9, world.now_s)
    world.drain()
    assert len(world.made["a"]) == 9


def test_parked_requests_give_up_their_seats_when_nothing_else_runs():
    world = Pretended(max_batch=2)
    for name in "ab":
        world.add(_request(name, max_tokens=5, grant=1))
    world.step()
    world.add(_request("c", max_tokens=1))
    assert [row.request.id for row in world.step().rows] == ["c"]
    for name in "ab":
        world.scheduler.grant(name, 5, world.now_s)
    world.drain()
    assert [len(world.made[name]) for name in "abc"] == [5, 5, 1]


def test_cancel_frees_at_once_in_every_state():
    world = Pretended(max_batch=1)
    world.add(_request("runs", max_tokens=50))
    world.add(_request("waits"))
    world.step()
    for name in ("waits", "runs"):
        world.cancel(name)
        assert world.ended[name].finish == "cancelled"
    world.cancel("runs")
    world.assert_nothing_is_held()


def test_a_shared_prompt_is_computed_once():
    world = Pretended(num_blocks=30, max_batch=8, step_tokens=200)
    shared = list(range(1, 49))
    for index in range(5):
        world.add(_request(f"r{index}", [*shared, 100 + index], tenant=f"t{index}"))
    world.drain()
    computed = sum(row.count for plan in world.plans for row in plan.rows if row.count > 1)
    prefilled = 49 + sum(1 for _ in range(4))
    singles = [row for plan in world.plans for row in plan.rows if row.count == 1 and row.start == 48]
    assert computed + len(singles) == prefilled
    assert sorted(o.request.cached_tokens for o in world.ended.values()) == [0, 48, 48, 48, 48]


def test_a_busy_tenant_does_not_crowd_out_another():
    world = Pretended(num_blocks=60, max_batch=2, step_tokens=200)
    for index in range(20):
        world.add(_request(f"busy{index}", tenant="busy", max_tokens=10))
    for _ in range(25):
        world.step()
    world.add(_request("quiet", tenant="quiet", max_tokens=2))
    before = len(world.ended)
    while "quiet" not in world.ended:
        world.step()
    assert len(world.ended) - before <= 3


def test_service_is_shared_by_tokens_not_by_requests():
    world = Pretended(num_blocks=80, max_batch=1, step_tokens=200)
    for index in range(30):
        world.add(_request(f"long{index}", 32, tenant="long", max_tokens=16))
        world.add(_request(f"short{index}", 4, tenant="short", max_tokens=4))
    while len(world.ended) < 30:
        world.step()
    done = [name.rstrip("0123456789") for name in world.ended]
    assert done.count("short") >= 3 * done.count("long")


def test_priority_goes_first_and_waiting_ages():
    world = Pretended(num_blocks=60, max_batch=1)
    world.add(_request("low"))
    world.add(_request("high", priority=1))
    assert world.step().rows[0].request.id == "high"
    world = Pretended(num_blocks=60, max_batch=1)
    world.add(_request("low"))
    world.now_s += 11.0
    world.add(_request("high", priority=1))
    assert world.step().rows[0].request.id == "low"


def test_a_lower_class_gives_its_seat_up_and_loses_no_token():
    world = Pretended(num_blocks=60, max_batch=2)
    for name in ("low0", "low1"):
        world.add(_request(name, 20, priority=-12, max_tokens=30))
    for _ in range(3):
        world.step()
    world.add(_request("high", 20, max_tokens=4))
    assert world.step().rows[0].request.id != "high"
    running = {row.request.id for row in world.step().rows}
    assert running == {"low0", "high"}
    while "low1" not in world.ended:
        world.step()
    assert list(world.ended) == ["high", "low0", "low1"]
    assert world.scheduler.preemptions == 1
    assert [world.ended[name].request.made for name in ("low0", "low1")] == [30, 30]


def test_a_lower_class_gives_its_blocks_up():
    world = Pretended(num_blocks=12, max_batch=4)
    for name in ("low0", "low1"):
        world.add(_request(name, 70, priority=-12, max_tokens=20))
    while world.scheduler.waiting or any(row.count > 1 for row in world.step().rows):
        world.step()
    world.add(_request("high", 80, max_tokens=2))
    while "high" not in world.ended:
        world.step()
    assert (list(world.ended), world.scheduler.preemptions) == (["high"], 1)
    while len(world.ended) < 3:
        world.step()
    assert [world.ended[name].request.made for name in ("low0", "low1")] == [20, 20]


def test_a_lower_class_whose_turn_has_come_keeps_its_seat():
    world = Pretended(num_blocks=60, max_batch=1)
    world.add(_request("low", 8, priority=-1, max_tokens=20))
    for number in range(30):
        world.add(_request(f"high{number}", 8, max_tokens=4))
    world.now_s += 0.5
    while "low" not in world.ended:
        world.step()
        world.now_s += 1.0
    assert 0 < len(world.ended) - 1 < 10
    assert world.scheduler.preemptions == 0


def test_logits_that_are_not_finite_end_one_request_and_scrub_its_blocks():
    world = Pretended(step_tokens=100)
    bad = world.add(_request("bad", 20, adapter="x"))
    world.add(_request("good", 20))
    plan = world.scheduler.plan(0.0)
    blocks = set(bad.table.blocks)
    outcomes = world.scheduler.commit(plan, [None, 11], 0.0)
    assert [(o.request.id, o.finish, o.error_code) for o in outcomes] == [
        ("bad", "error", "non_finite_logits"),
        ("good", "", ""),
    ]
    assert set(world.scheduler.plan(0.0).scrub) == blocks


def test_an_unfinished_adapter_prompt_leaves_nothing_behind():
    world = Pretended(step_tokens=20)
    request = world.add(_request("a", 50, adapter="x"))
    world.add(_request("b", 4, max_tokens=30))
    world.step()
    world.step()
    blocks = set(request.table.blocks)
    assert not any(world.kv.pool.is_published(block) for block in blocks)
    world.cancel("a")
    assert set(world.step().scrub) == blocks


@pytest.mark.parametrize("tenants", [1, 400])
def test_a_step_of_twice_as_many_requests_takes_twice_the_work_to_plan(tenants):
    assert _work(400, tenants) < 2.5 * _work(200, tenants)


def _work(count: int, tenants: int) -> int:
    """Calls that it takes to take so many requests in and to plan the step that runs them all."""
    world = Pretended(num_blocks=count + 8, max_batch=count, step_tokens=count)
    calls = 0

    def note(_frame, event, _argument) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        for index in range(count):
            world.add(_request(f"r{index}", [index + 1], tenant=f"t{index % tenants}"))
        plan = world.scheduler.plan(1.0)
    finally:
        sys.setprofile(None)
    assert plan is not None and len(plan.rows) == count
    return calls
