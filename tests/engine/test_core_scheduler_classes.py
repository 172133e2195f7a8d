"""What higher priority classes take from lower ones: of those that lose little, and only where it helps."""

from zlib import crc32

import pytest

from kindling_engine.kvcache.manager import BlockTable
from kindling_engine.kvcache.pool import BlockPool
from kindling_engine.scheduler.request import Request, RequestState
from kindling_engine.scheduler.victims import for_blocks, giving_way
from kindling_late_runner import Late
from kindling_schedules import Pretended


def _request(name: str, prompt: int = 8, *, max_tokens: int = 4, **more) -> Request:
    tokens = [crc32(f"{name}{i}".encode()) % 1000 + 1 for i in range(prompt)]
    return Request(id=name, tokens=tokens, max_tokens=max_tokens, grant=999, **more)


def _steps_under_load(world: Pretended, low: Request, *, every: int, prompt: int) -> int:
    """Steps until a low request ends while a high one comes every so often."""
    for step in range(3000):
        if low.id in world.ended:
            return step
        if step % every == every - 1:
            world.add(_request(f"high{step}", prompt, max_tokens=2))
        world.step()
    raise AssertionError("the lower class never ends")


@pytest.mark.parametrize("world", [Pretended, Late], ids=["at once", "one late"])
@pytest.mark.parametrize(
    "more", [{}, {"adapter": "x"}, {"uncached": True}], ids=["plain", "adapter", "uncached"]
)
def test_a_long_prompt_of_a_lower_class_ends_under_a_steady_load(world, more):
    made = world(num_blocks=200, max_batch=1, context_length=600)
    low = made.add(_request("low", 300, priority=-12, **more))
    assert _steps_under_load(made, low, every=8, prompt=8) < 80
    assert made.scheduler.preemptions <= 3 and low.lost < 2 * len(low.tokens)


@pytest.mark.parametrize("more", [{"adapter": "x"}, {"uncached": True}], ids=["adapter", "uncached"])
def test_a_first_prompt_that_would_be_lost_keeps_its_seat(more):
    world = Pretended(num_blocks=60, max_batch=1, context_length=300)
    low = world.add(_request("low", 200, priority=-12, max_tokens=20, **more))
    for _ in range(4):
        world.step()
    world.add(_request("high"))
    while not low.made:
        world.step()
    assert world.scheduler.preemptions == 0
    world.step()
    assert world.scheduler.preemptions == 1 and low.state is RequestState.WAITING


def test_who_lost_as_much_as_it_has_keeps_its_seat():
    """Whoever comes takes the room in which its work would be found again."""
    world = Pretended(num_blocks=8, max_batch=1)
    low = world.add(_request("low", 40, priority=-12, max_tokens=50))
    _steps_under_load(world, low, every=9, prompt=90)
    assert low.risen and len(low.tokens) - low.made <= low.lost < 2 * len(low.tokens)
    assert 1 < world.scheduler.preemptions < 10 and low.made == 50


def test_nobody_gives_blocks_up_where_it_would_not_help():
    world = Pretended(num_blocks=40, max_batch=8, step_tokens=64, context_length=600)
    world.add(_request("high0", 300, max_tokens=40))
    for _ in range(8):
        world.step()
    lows = [world.add(_request(f"low{i}", 20, priority=-12, max_tokens=25)) for i in range(4)]
    for _ in range(5):
        world.step()
    world.add(_request("high1", 400))
    for _ in range(15):
        world.step()
    assert world.scheduler.preemptions == 0 and all(low.state is RequestState.RUNNING for low in lows)
    world.drain()
    assert "high1" in world.ended and world.scheduler.preemptions == 0


def test_nobody_gives_a_seat_up_to_one_that_does_not_fit():
    world = Pretended(num_blocks=40, max_batch=2, step_tokens=64, context_length=600)
    world.add(_request("high0", 300, max_tokens=40))
    low = world.add(_request("low", 20, priority=-12, max_tokens=60))
    for _ in range(8):
        world.step()
    world.add(_request("high1", 400))
    for _ in range(15):
        world.step()
    assert low.state is RequestState.RUNNING and world.scheduler.preemptions == 0


def test_nobody_gives_a_seat_up_to_one_that_waits_for_a_prefix():
    world = Pretended(num_blocks=60, max_batch=2, step_tokens=64)
    low = world.add(_request("low", priority=-12, max_tokens=60))
    world.step()
    first, second = _twins(world)
    world.step()
    assert (first.state, second.state) == (RequestState.RUNNING, RequestState.WAITING)
    assert low.state is RequestState.RUNNING and world.scheduler.preemptions == 0
    world.step()
    assert second.state is RequestState.RUNNING and second.cached_tokens == 32
    assert low.state is RequestState.WAITING and world.scheduler.preemptions == 1


def test_who_starts_while_a_higher_one_waits_for_a_prefix_has_not_risen():
    world = Pretended(num_blocks=60, max_batch=3, step_tokens=64)
    _, second = _twins(world)
    low = world.add(_request("low", priority=-12, max_tokens=60))
    world.step()
    assert (low.state, second.state) == (RequestState.RUNNING, RequestState.WAITING)
    assert not low.risen


def _twins(world: Pretended) -> tuple[Request, Request]:
    """Two requests with one prompt."""
    first, second = _request("high", 40), _request("high", 40)
    second.id = "again"
    return world.add(first), world.add(second)


def test_blocks_on_their_way_are_waited_for():
    """One that gave way is still computed by a step under way; nobody else has to go meanwhile."""
    world = Late(num_blocks=12, max_batch=4, step_tokens=64)
    lows = [world.add(_request(f"low{i}", 70, priority=-12, max_tokens=9)) for i in range(2)]
    while not all(low.made for low in lows):
        world.step()
    high = world.add(_request("high", 75))
    while not high.made:
        world.step()
    assert [low.state for low in lows] == [RequestState.RUNNING, RequestState.WAITING]
    assert world.scheduler.preemptions == 1
    world.drain()
    world.assert_nothing_is_held()


def test_a_held_request_is_not_asked_for_its_seat():
    """A step under way computes it, and who holds it counts on its being parked when that has ended."""
    world = Pretended(max_batch=1)
    scheduler = world.scheduler
    low = world.add(_request("low", 8, priority=-12))
    plan = scheduler.plan(0.0)
    scheduler.launched(plan)
    assert not scheduler.hold("low")
    world.add(_request("high"))
    assert scheduler.plan(0.0) is None
    assert low.state is RequestState.RUNNING and scheduler.preemptions == 0
    scheduler.commit(plan, [11], 0.0)
    assert scheduler.hold("low") and low.state is RequestState.PARKED and low.made == 1


def test_blocks_come_from_the_least_urgent_and_last_from_those_that_are_to_keep_their_seats():
    first, second, third, risen = (_request(name) for name in "abcd")
    risen.risen = True
    running = [first, second, third, risen]
    assert for_blocks(first, running, []) is third
    assert for_blocks(second, running, []) is third
    assert for_blocks(third, running, []) is risen
    assert for_blocks(risen, running, []) is None
    assert for_blocks(risen, running, [first, second]) is second


def test_shared_blocks_count_when_their_last_owner_gives_way():
    pool = BlockPool(10)
    shared, own, others = pool.allocate(2), pool.allocate(1), pool.allocate(1)
    lows = [_request(name, priority=-1) for name in ("a", "b")]
    for low, blocks in zip(lows, ([*shared, *others], [*shared, *own]), strict=True):
        low.table = BlockTable(b"")
        low.table.blocks = blocks
    for block in (*shared, *others):
        pool.share(block)
    high = _request("high")
    assert giving_way(high, lows, pool, 0) == giving_way(high, lows, pool, 1) == [lows[1]]
    assert giving_way(high, lows, pool, 2) == giving_way(high, lows, pool, 3) == lows[::-1]
    assert giving_way(high, lows, pool, 4) == []
    assert giving_way(lows[0], lows, pool, 1) == []
