"""Over random schedules: every request ends, no block is leaked, and no block is shared wrongly."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling_engine.scheduler.request import Request
from kindling_schedules import Pretended, token_of

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
    }
)
actions = st.lists(
    st.one_of(
        submits.map(lambda values: ("submit", values)),
        st.integers(0, 12).map(lambda index: ("cancel", index)),
        st.tuples(st.integers(0, 12), st.integers(1, 50)).map(lambda pair: ("grant", pair)),
        st.integers(1, 6).map(lambda count: ("step", count)),
        st.integers(0, 12).map(lambda index: ("bad", index)),
        st.just(("wait", None)),
    ),
    min_size=1,
    max_size=40,
)


schedules = given(actions, st.integers(7, 14), st.integers(2, 5), st.sampled_from([5, 16, 33, 200]))


@settings(max_examples=200, deadline=None)
@schedules
def test_random_schedules_end_clean(steps, num_blocks, max_batch, step_tokens):
    _run(steps, num_blocks, max_batch, step_tokens)


@pytest.mark.long
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@schedules
def test_ten_thousand_random_schedules_end_clean(steps, num_blocks, max_batch, step_tokens):
    _run(steps, num_blocks, max_batch, step_tokens)


def _run(steps, num_blocks: int, max_batch: int, step_tokens: int) -> None:
    world = Pretended(num_blocks=num_blocks, max_batch=max_batch, step_tokens=step_tokens)
    requests: list[Request] = []
    for kind, value in steps:
        if kind == "submit":
            request = Request(
                id=f"r{len(requests)}",
                tokens=list(value["prompt"]),
                max_tokens=1 if value["embeds"] else value["max_tokens"],
                grant=1 if value["embeds"] else value["grant"],
                embeds=value["embeds"],
                adapter=value["adapter"],
                salt=value["salt"],
                tenant=value["tenant"],
                priority=value["priority"],
                stop_ids=frozenset(range(10, 14)) if value["stop"] else frozenset(),
            )
            requests.append(world.add(request))
        elif kind == "cancel":
            world.cancel(f"r{value}")
        elif kind == "grant":
            world.scheduler.grant(f"r{value[0]}", value[1], world.now_s)
        elif kind == "step":
            for _ in range(value):
                world.step()
        elif kind == "bad":
            world.step(bad=frozenset({f"r{value}"}))
        else:
            world.now_s += 0.7
            for outcome in world.scheduler.expire(world.now_s):
                world.note(outcome)
    world.drain()
    world.assert_nothing_is_held()
    assert set(world.ended) == {request.id for request in requests}
    for request in requests:
        _check_output(request, world.ended[request.id].finish, world.made.get(request.id, []))


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
