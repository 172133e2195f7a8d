"""Over random schedules, booked at once, one step late or with guesses: every request ends, no block and no state
is leaked, none is shared wrongly, and none goes to somebody else while a step writes to it."""

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling_engine.scheduler.plan import StepPlan
from kindling_engine.scheduler.request import Request
from kindling_examples import examples
from kindling_late_runner import Late
from kindling_schedules import Pretended, RandomDrafter, token_of

# Few distinct prompts of few distinct tokens, so that prefixes meet often.
prompts = st.one_of(
    st.integers(1, 70).map(lambda n: [1 + i % 3 for i in range(n)]),
    st.lists(st.integers(1, 2), min_size=1, max_size=70),
)
submits = st.fixed_dictionaries(
    {
        "prompt": prompts,
        "max_tokens": st.integers(1, 40),
        "grant": st.integers(0, 40),
        "adapter": st.sampled_from(["", "", "a", "b"]),
        "salt": st.sampled_from(["", "s"]),
        "tenant": st.sampled_from(["t", "u", "v"]),
        "priority": st.integers(-1, 1),
        "stop": st.booleans(),
        "embeds": st.sampled_from([False, False, False, True]),
        "waits_for_token": st.sampled_from([False, False, True]),
    }
)
actions = st.lists(
    st.one_of(
        submits.map(lambda values: ("submit", values)),
        st.integers(0, 12).map(lambda index: ("cancel", index)),
        st.tuples(st.integers(0, 12), st.integers(1, 50)).map(lambda pair: ("grant", pair)),
        st.integers(1, 6).map(lambda count: ("step", count)),
        st.integers(0, 12).map(lambda index: ("bad", index)),
        st.tuples(st.integers(0, 12), st.booleans(), st.booleans()).map(lambda three: ("fail", three)),
        st.just(("wait", None)),
    ),
    min_size=1,
    max_size=40,
)


schedules = given(actions, st.integers(7, 14), st.integers(2, 5), st.sampled_from([5, 16, 33, 200]))

# Turns of few chats, each of which begins as another does.
turns = st.tuples(submits, st.integers(40, 84), st.integers(0, 2)).map(
    lambda three: {
        **three[0],
        "prompt": [*([1, 2, 3] * 28)[: three[1]], three[2]],
        "adapter": three[0]["adapter"] * (three[1] % 4 == 0),
        "salt": three[0]["salt"] * (three[1] % 5 == 0),
        "grant": 40,
        "embeds": False,
    }
)
chats = given(
    st.lists(
        st.one_of(turns.map(lambda values: ("submit", values)), actions.map(lambda some: some[0])),
        max_size=40,
    ),
    st.integers(9, 16),
    st.integers(2, 5),
    st.sampled_from([5, 16, 33, 200]),
)


class Guessing(Pretended):
    """Steps try what may come next; where a step is broken, one in three is so behind the first guesses alone."""

    def __post_init__(self) -> None:
        self.drafter = RandomDrafter(self.num_blocks)
        super().__post_init__()

    def step(self, bad: frozenset[str] = frozenset()) -> StepPlan | None:
        self.finite = len(self.plans) % 3
        return super().step(bad)


class Stateful(Pretended):
    """Layers keep a state, and few are kept of prefixes."""

    def __post_init__(self) -> None:
        self.state_slots = 1 + self.num_blocks % 7
        super().__post_init__()


class StatefulLate(Late):
    def __post_init__(self) -> None:
        self.state_slots = 1 + self.num_blocks % 7
        super().__post_init__()


WORLDS = pytest.mark.parametrize(
    "world", [Pretended, Late, Guessing], ids=["at once", "one late", "guessing"]
)
STATEFUL = pytest.mark.parametrize("world", [Stateful, StatefulLate], ids=["at once", "one late"])


@WORLDS
@settings(max_examples=examples(200), deadline=None)
@schedules
def test_random_schedules_end_clean(world, steps, num_blocks, max_batch, step_tokens):
    ended, added = _run(world, steps, num_blocks, max_batch, step_tokens)
    assert ended == added


@STATEFUL
@settings(max_examples=60, deadline=None)
@chats
def test_random_chats_over_states_end_clean(world, steps, num_blocks, max_batch, step_tokens):
    ended, added = _run(world, steps, num_blocks, max_batch, step_tokens)
    assert ended == added


@pytest.mark.long
@pytest.mark.timeout(1800)
@STATEFUL
@settings(max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck))
@chats
def test_five_thousand_random_chats_over_states_end_clean(world, steps, num_blocks, max_batch, step_tokens):
    ended, added = _run(world, steps, num_blocks, max_batch, step_tokens)
    assert ended == added


@pytest.mark.long
@pytest.mark.timeout(1800)
@WORLDS
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@schedules
def test_ten_thousand_random_schedules_end_clean(world, steps, num_blocks, max_batch, step_tokens):
    ended, added = _run(world, steps, num_blocks, max_batch, step_tokens)
    assert ended == added


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(submits, min_size=1, max_size=12),
    st.integers(7, 14),
    st.integers(2, 5),
    st.sampled_from([16, 33]),
)
def test_steps_booked_late_or_with_guesses_make_the_same_tokens(values, num_blocks, max_batch, step_tokens):
    made, finishes = [], []
    for kind in (Pretended, Late, Guessing):
        world = kind(num_blocks=num_blocks, max_batch=max_batch, step_tokens=step_tokens)
        for index, one in enumerate(values):
            world.add(_request(index, one))
        world.drain()
        made.append(world.made)
        finishes.append({name: outcome.finish for name, outcome in world.ended.items()})
    assert made[0] == made[1] == made[2] and finishes[0] == finishes[1] == finishes[2]


@pytest.fixture(autouse=True)
def _quiet():
    """Failures are pretended by the hundred."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def _run(
    kind: type[Pretended], steps, num_blocks: int, max_batch: int, step_tokens: int
) -> tuple[set[str], set[str]]:
    """The ids of requests that ended, and of all; every block and every token has been looked at."""
    world = kind(num_blocks=num_blocks, max_batch=max_batch, step_tokens=step_tokens)
    requests: list[Request] = []
    for action, value in steps:
        if action == "submit":
            request = _request(len(requests), value)
            requests.append(world.add(request))
        elif action == "cancel":
            world.cancel(f"r{value}")
        elif action == "grant":
            world.scheduler.grant(f"r{value[0]}", value[1], world.now_s)
        elif action == "step":
            for _ in range(value):
                world.step()
        elif action == "bad":
            world.step(bad=frozenset({f"r{value}"}))
        elif action == "fail" and isinstance(world, Late):
            world.fail(f"r{value[0]}", launch=value[1], hopeless=value[2])
        elif action == "fail":
            world.step()
        else:
            world.now_s += 0.7
            for outcome in world.scheduler.expire(world.now_s):
                world.note(outcome)
    world.drain()
    world.assert_nothing_is_held()
    for request in requests:
        _check_output(request, world.ended[request.id].finish, world.made.get(request.id, []))
    return set(world.ended), {request.id for request in requests}


def _request(index: int, value: dict) -> Request:
    return Request(
        id=f"r{index}",
        tokens=list(value["prompt"]),
        max_tokens=1 if value["embeds"] else value["max_tokens"],
        grant=1 if value["embeds"] else value["grant"],
        embeds=value["embeds"],
        adapter=value["adapter"],
        salt=value["salt"],
        tenant=value["tenant"],
        priority=value["priority"],
        stop_ids=frozenset(range(10, 14)) if value["stop"] else frozenset(),
        waits_for_token=value["waits_for_token"],
        drafting=None if value["embeds"] or value["waits_for_token"] else "wanted",
    )


def _check_output(request: Request, finish: str, made: list[int]) -> None:
    replay = Request(id="replay", tokens=request.tokens[: request.prompt_len], max_tokens=1, grant=1)
    for token in made:
        assert token == token_of(replay), "preemption or sharing changed what was generated"
        replay.tokens.append(token)
    assert len(made) <= min(request.max_tokens, request.grant)
    if finish == "length":
        assert len(made) == request.max_tokens or len(request.tokens) in (
            96,
            (len(request.tokens) // 16) * 16,
        )
    if finish == "stop" and request.embeds:
        assert not made
    elif finish == "stop":
        assert made[-1] in request.stop_ids
    if finish == "grant_refused":
        assert len(made) == request.grant < request.max_tokens
