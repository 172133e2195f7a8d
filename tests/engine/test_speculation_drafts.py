"""Single decisions about drafts: when there are some, and what stands of them."""

import pytest

from kindling_engine.scheduler.drafts import verify
from kindling_engine.scheduler.request import Request, RequestState
from kindling_schedules import Pretended, RandomDrafter, token_next


class Foreseeing(RandomDrafter):
    """Guesses that are right, as many as there is room for."""

    def draft(self, requests, room, spare):
        drafts = {}
        for request in requests:
            text = list(request.tokens)
            for _ in range(min(room[request.id], spare)):
                text.append(token_next(text))
                spare -= 1
            if len(text) > len(request.tokens):
                drafts[request.id] = tuple(text[len(request.tokens) :])
        return drafts


def _request(name: str, prompt: int, *, max_tokens: int = 20, grant: int = 99, **more) -> Request:
    return Request(
        id=name,
        tokens=[1 + ord(name) + i for i in range(prompt)],
        max_tokens=max_tokens,
        grant=grant,
        drafting="wanted",
        **more,
    )


@pytest.mark.parametrize(
    ("draft", "drawn", "tokens", "right", "spoilt"),
    [
        ((), [5], [5], 0, False),
        ((5, 6), [5, 6, 7], [5, 6, 7], 2, False),
        ((5, 6), [5, 9, 7], [5, 9], 1, False),
        ((5, 6), [4, 6, 7], [4], 0, False),
        ((5, 6), [5, 6, None], [5, 6], 2, True),
        ((5, 6), [5, None, 7], [5], 1, True),
        ((5, 6), [4, None, None], [4], 0, True),
    ],
)
def test_what_was_drawn_as_guessed_stands_and_one_token_more(draft, drawn, tokens, right, spoilt):
    found = verify(draft, drawn)
    assert (found.tokens, found.right, found.spoilt) == (tokens, right, spoilt)


def test_a_request_is_done_in_two_steps_where_all_is_foreseen():
    world = Pretended(drafter=Foreseeing(0), num_blocks=20)
    world.add(_request("a", 8, max_tokens=12))
    plans = [world.step(), world.step()]
    assert [row.draft for row in plans[0].rows] == [()]
    assert [len(row.draft) for row in plans[1].rows] == [10]
    assert world.ended["a"].finish == "length" and len(world.made["a"]) == 12


def test_drafts_fit_into_grant_context_and_step():
    world = Pretended(drafter=Foreseeing(0), num_blocks=20, context_length=40, step_tokens=6)
    for name, grant in (("a", 5), ("b", 99)):
        world.add(_request(name, 4, max_tokens=90, grant=grant))
    world.drain()
    assert max(plan.num_tokens for plan in world.plans) == 6
    assert world.ended["a"].finish == "grant_refused" and len(world.made["a"]) == 5
    assert world.ended["b"].finish == "length" and len(world.made["b"]) == 36


def test_there_are_none_beside_a_prompt_and_none_that_cost_another_its_blocks():
    world = Pretended(drafter=Foreseeing(0), num_blocks=4, step_tokens=64)
    world.add(_request("a", 15, max_tokens=40))
    world.step()
    world.add(_request("b", 15, max_tokens=2))
    assert all(not row.draft for row in world.step().rows)
    world.drain()
    drafted = [row for plan in world.plans for row in plan.rows if row.draft]
    assert drafted and world.scheduler.preemptions == 0
    assert max(len(row.request.id) + row.start + row.count for row in drafted) <= 1 + 3 * 16
    world.assert_nothing_is_held()


def test_a_stop_token_among_the_guessed_ends_the_request_there():
    whole = Pretended()
    whole.add(_request("a", 8, max_tokens=12))
    whole.drain()
    stop = whole.made["a"][5]
    world = Pretended(drafter=Foreseeing(0))
    world.add(_request("a", 8, max_tokens=12, stop_ids=frozenset({stop})))
    world.drain()
    first = whole.made["a"].index(stop)
    assert world.ended["a"].finish == "stop" and world.made["a"] == whole.made["a"][: first + 1]
    # The first came with the prompt; what was tried behind the end was neither right nor wrong.
    request = world.ended["a"].request
    assert request.guessed == request.drafted == world.drafter.drafted == first
    world.assert_nothing_is_held()


@pytest.mark.parametrize("finite", [0, 2])
def test_what_is_not_finite_beside_a_wrong_guess_is_computed_anew_and_no_longer_guessed(finite: int):
    # Products of masked places are zero, or none at all: then nothing in front of the guess is finite either.
    world = Pretended(drafter=Foreseeing(0), finite=finite)
    request = world.add(_request("a", 8, max_tokens=12))
    world.step()
    world.step(bad=frozenset({"a"}))
    assert request.drafting is None and request.state is RequestState.WAITING
    assert request.made == 1 + finite
    world.drain()
    assert world.ended["a"].finish == "length" and len(world.made["a"]) == 12
    assert all(not row.draft for plan in world.plans[2:] for row in plan.rows)
    world.assert_nothing_is_held()


def test_what_is_not_finite_without_a_guess_still_fails_its_request():
    world = Pretended(drafter=Foreseeing(0))
    world.add(_request("a", 8, max_tokens=1))
    world.step(bad=frozenset({"a"}))
    assert world.ended["a"].error_code == "non_finite_logits"


class Broken(RandomDrafter):
    """Fails whenever it is asked."""

    asked = 0

    def draft(self, requests, room, spare):
        self.asked += 1
        raise ValueError("no guess")


def test_guesses_that_fail_cost_no_request_anything_but_guesses(caplog: pytest.LogCaptureFixture):
    world = Pretended(drafter=Broken(0))
    for name in "ab":
        world.add(_request(name, 4, max_tokens=6))
    world.drain()
    assert {len(made) for made in world.made.values()} == {6}
    # Once for both.
    assert world.drafter.asked == len(caplog.records) == 1


class Borrower:
    """Has blocks in use, which are on their way as soon as they are asked for."""

    def recall(self, count: int) -> int:
        return count


def test_there_are_none_while_somebody_waits_for_blocks_that_are_lent():
    world = Pretended(drafter=Foreseeing(0), num_blocks=12, context_length=160, step_tokens=64)
    world.add(_request("a", 14, max_tokens=30))
    world.step()
    waiting = world.add(_request("b", 100, max_tokens=2))
    world.step()
    assert waiting.remaining > 1
    world.kv.loans.limit, world.kv.loans.borrower = 12, Borrower()
    lent = world.kv.lend(world.kv.loans.room())
    plan = world.step()
    # The block that a guess would have taken is one of those that are awaited.
    assert [(row.request.id, row.draft) for row in plan.rows] == [("a", ())]
    world.kv.take_back(lent)
    world.drain()
    assert len(world.made["a"]) == 30 and len(world.made["b"]) == 2
    world.assert_nothing_is_held()
