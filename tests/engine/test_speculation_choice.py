"""How much is guessed: what steps cost, how often guesses are right, and what that comes to."""

from itertools import pairwise

import pytest

from kindling_engine.scheduler.request import Request
from kindling_engine.speculation.costs import StepCosts
from kindling_engine.speculation.rates import Rates, Tallies
from kindling_engine.speculation.speculator import MOST_GUESSED, RequestDrafting, Speculator


def _request(name: str = "a", tokens: tuple[int, ...] = (1, 2, 3, 4, 5, 1, 2, 3)) -> Request:
    return Request(id=name, tokens=list(tokens), max_tokens=99, grant=99, drafting=RequestDrafting())


def _speculator(seconds) -> Speculator:
    """One that has seen steps of all sizes, ``seconds`` by rows."""
    made = Speculator()
    for _ in range(30):
        for rows in range(1, 129):
            made.timed(rows, seconds(rows))
    return made


def _draft(made: Speculator, requests: list[Request], *, room: int = 50, spare: int = 500) -> dict:
    return made.draft(requests, {one.id: room for one in requests}, spare)


def _memory_bound(rows: int) -> float:
    return 0.02 + 0.0002 * rows


def _compute_bound(rows: int) -> float:
    return 0.001 * rows


def test_costs_are_learnt_and_drawn_between():
    costs = StepCosts()
    assert costs.seconds(3) is None
    costs.learn(1, 0.1)
    costs.learn(8, 0.2)
    assert (costs.seconds(1), costs.seconds(8)) == (0.1, 0.2)
    assert costs.seconds(4) == pytest.approx(0.1 + 0.1 * 3 / 7)
    assert 0.2 < costs.seconds(16) < 0.4


def test_a_larger_step_never_costs_less():
    costs = StepCosts()
    for rows, seconds in ((8, 0.8), (1, 0.1), (4, 2.0), (2, 0.05), (16, 0.2), (1, 0.9)):
        costs.learn(rows, seconds)
        found = [costs.seconds(one) for one in range(1, 20)]
        assert all(less <= more for less, more in pairwise(found))


def test_one_step_that_was_held_up_says_little():
    costs = StepCosts()
    costs.learn(1, 0.1)
    costs.learn(1, 100.0)
    assert costs.seconds(1) < 0.15
    costs.learn(4, 100.0)
    assert costs.seconds(4) < 0.6


def test_what_once_was_dear_is_tried_again_some_day():
    costs = StepCosts()
    costs.learn(1, 0.1)
    for _ in range(100):
        costs.learn(2, 10.0)
    assert costs.seconds(2) > 9.0
    for _ in range(20_000):
        costs.learn(1, 0.1)
    assert costs.seconds(2) < 0.11


def test_rates_follow_what_happens():
    rates, own = Rates(), Tallies()
    first = rates.rate(own, "firm")
    for _ in range(20):
        rates.learn(own, "firm", 4, missed=False)
    assert rates.rate(own, "firm") > 0.9 > first
    assert rates.rate(Tallies(), "firm") > first  # another request's is thought better of, too
    assert rates.rate(own, "loose") == rates.rate(own, "forced") == first
    for _ in range(60):
        rates.learn(own, "firm", 0, missed=True)
    assert rates.rate(own, "firm") < 0.1
    for _ in range(5_000):
        rates.pass_over(own, "firm")
    assert rates.rate(own, "firm") > 0.4


def test_a_newcomer_with_good_grounds_is_thought_no_worse_of_for_others():
    rates, first = Rates(), Rates().rate(Tallies(), "firm")
    for _ in range(200):
        for kind in ("forced", "firm", "loose"):
            rates.learn(Tallies(), kind, 0, missed=True)
    assert rates.rate(Tallies(), "forced") == rates.rate(Tallies(), "firm") == first
    assert rates.rate(Tallies(), "loose") < 0.1


def test_nothing_is_tried_before_a_plain_step_was_seen():
    assert _draft(Speculator(), [_request()]) == {}


def test_guesses_are_tried_where_rows_are_cheap():
    made = _speculator(_memory_bound)
    found = _draft(made, [_request()])["a"]
    assert found == (4, 5, 1, 2, 3, 4, 5)[: len(found)]
    for _ in range(30):
        made.learn(_request(), (1,) * 8, 8)
    request = _request()
    for _ in range(30):
        request.drafting.tallies.loose.add(8, missed=False, kept=0.9)
    assert len(_draft(made, [request])["a"]) == MOST_GUESSED


def test_none_are_tried_where_each_row_costs_its_own():
    made = _speculator(_compute_bound)
    assert _draft(made, [_request()]) == {}


def test_wrong_guesses_are_soon_given_up():
    made, request, tried = _speculator(_memory_bound), _request(), 0
    for _ in range(200):
        draft = _draft(made, [request]).get("a", ())
        tried += len(draft)
        if draft:
            made.learn(request, draft, 0)
    assert 0 < tried < 60


@pytest.mark.parametrize("beside", [0, 1, 3])
def test_an_exact_prediction_is_tried_however_useless_those_before_it_were(beside: int):
    # The shape of the benchmarks: 49 tokens a second alone, 245 for eight.
    made = _speculator(lambda rows: 0.0187 + 0.00175 * rows)
    for number in range(20):
        useless = _predicting(f"useless {number}", [*range(1_000, 1_100)])
        for _ in range(40):
            draft = _draft(made, [useless]).get(useless.id, ())
            useless.tokens.append(5_000 + len(useless.tokens))
            if draft:
                made.learn(useless, draft, 0)
    answer = [*range(2_000, 2_100)]
    exact = _predicting("exact", answer)
    others = [_predicting(f"other {number}", []) for number in range(beside)]
    for step, token in enumerate(answer):
        if "exact" in _draft(made, [exact, *others]):
            break
        for other in (exact, *others):
            other.tokens.append(token if other is exact else 9_000 + len(other.tokens) * (1 + step))
    assert exact.made <= 3


def _predicting(name: str, prediction: list[int]) -> Request:
    prompt = [ord(letter) for letter in name]
    return Request(id=name, tokens=prompt, max_tokens=999, grant=999, drafting=RequestDrafting(prediction))


def test_what_a_grammar_forces_fares_by_itself():
    made, request = _speculator(_memory_bound), _predicting("a", [7, 8, 9])
    request.drafting.constraint = Forcing()
    for _ in range(30):
        draft = _draft(made, [request])["a"]
        assert set(draft) == {4}
        made.learn(request, draft, len(draft))
    assert request.drafting.tallies.forced.right > 5 and request.drafting.tallies.firm.right == 0


class Forcing:
    """Leaves no choice."""

    def forced(self) -> tuple[int, ...]:
        return (4,) * MOST_GUESSED

    def allowed(self, tokens: tuple[int, ...]) -> int:
        return len(tokens)


@pytest.mark.parametrize(
    ("followed", "wanted"),
    [((5, 6, 7, 8), (5, 6, 7, 8)), ((5, 6, 0, 7), (5, 6)), ((0, 5, 6, 7), ())],
)
def test_a_guess_ends_before_the_token_that_ends_the_answer(
    followed: tuple[int, ...], wanted: tuple[int, ...]
):
    made, request = _speculator(_memory_bound), _request(tokens=(1, 2, 3, *followed, 9, 9, 1, 2, 3))
    request.stop_ids = frozenset({0})
    for _ in range(30):
        request.drafting.tallies.loose.add(9, missed=False, kept=0.9)
    assert _draft(made, [request], room=4).get("a", ()) == wanted


def test_room_and_what_a_step_spares_are_kept():
    made = _speculator(_memory_bound)
    requests = [_request(name, (7,) * 12) for name in "abc"]
    for request in requests:
        for _ in range(30):
            request.drafting.tallies.firm.add(9, missed=False, kept=0.9)
    assert sum(map(len, _draft(made, requests, spare=5).values())) == 5
    assert all(len(one) <= 2 for one in _draft(made, requests, room=2).values())
    assert _draft(made, requests, room=0) == {} and _draft(made, requests, spare=0) == {}


def test_the_likelier_guess_gets_the_rows():
    made = _speculator(_memory_bound)
    good, bad = _request("good", (7,) * 12), _request("bad", (8,) * 12)
    for _ in range(20):
        good.drafting.tallies.firm.add(9, missed=False, kept=0.9)
        bad.drafting.tallies.firm.add(0, missed=True, kept=0.9)
    found = _draft(made, [bad, good], spare=6)
    assert len(found["good"]) >= 5 and len(found.get("bad", ())) <= 1


def test_nobody_waits_much_longer_for_anothers_guesses():
    def seconds(rows: int) -> float:
        return 0.02 + 0.001 * rows

    made = _speculator(seconds)
    good = _request("good", (7,) * 12)
    for _ in range(30):
        good.drafting.tallies.firm.add(9, missed=False, kept=0.9)
    assert len(_draft(made, [good])["good"]) == MOST_GUESSED  # 1.7 times the time for 13 tokens
    others = [_request(name, (1, 2, 3, 4)) for name in "abc"]
    beside = len(_draft(made, [good, *others])["good"])
    assert beside >= 1 and seconds(4 + beside) <= 1.1 * seconds(4)


def test_a_request_that_takes_no_part_gets_none():
    made = _speculator(_memory_bound)
    plain = _request("plain")
    plain.drafting = None
    assert set(_draft(made, [plain, _request()])) == {"a"}
