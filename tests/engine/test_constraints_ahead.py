"""What a grammar tells of places behind tokens that are not accepted yet, over real schemas."""

import numpy as np
import pytest

from kindling_engine.constraints.base import Behind, ConstraintError, ForeseeableConstraint
from kindling_engine.constraints.thinking import ThinkingConstraint
from kindling_grammars import EOS, VOCAB, allowed, compiler, encode
from kindling_schema_bench import LAYOUTS, Case, cases_load

AHEAD = 6
THOUGHT_END = [7, 8, 7, 9]
CASES = [case for case in cases_load()[::16] if any(valid for _, valid in case.instances)]


def _grammar(case: Case):
    try:
        return compiler().compile("json_schema", case.text)
    except ConstraintError:
        pytest.skip("refused by keyword")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_masks_ahead_are_those_of_the_way_there(case: Case):
    grammar = _grammar(case)
    text = next(text for text, valid in case.texts(**LAYOUTS[0]) if valid)
    ids = encode(text)[:120]
    walk, masks = grammar.start(), []
    for token in ids:
        masks.append(allowed(walk))
        walk.accept(token)
    constraint = grammar.start()
    assert isinstance(constraint, ForeseeableConstraint)
    for place, token in enumerate(ids):
        ahead = ids[place : place + AHEAD]
        passed = constraint.allowed(ahead)
        # All of a valid text may come; what would end it stays out.
        assert passed == len(ahead) or place + passed == len(ids) - 1
        for length in range(1, passed):
            assert allowed(Behind(constraint, ahead[:length])) == masks[place + length], (place, length)
        forced = constraint.forced()
        assert constraint.allowed(forced) >= len(forced) - 1
        assert constraint.allowed([*ahead[:2], EOS]) <= 2
        assert allowed(constraint) == masks[place], "looking ahead moved it on"
        constraint.accept(token)


def test_a_token_that_is_not_allowed_ends_what_may_come():
    constraint = compiler().compile("regex", "abc[0-9]+").start()
    ids = encode("abc5")
    wrong = next(token for token in range(VOCAB) if token not in allowed(Behind(constraint, ids)))
    assert constraint.allowed([*ids, wrong, *ids]) == len(ids)
    mask = np.zeros(VOCAB // 32, dtype=np.int32)
    with pytest.raises(ConstraintError, match="guessed"):
        constraint.fill_behind([*ids, wrong], mask)
    assert constraint.allowed(ids) == len(ids)


def test_what_has_to_come_is_known():
    constraint = compiler().compile("regex", "confidence: [0-9]").start()
    forced = constraint.forced()
    assert forced and list(forced) == encode("confidence: ")[: len(forced)]
    with pytest.raises(RuntimeError):
        Behind(constraint, forced).accept(5)


AHEAD_OF_NOTHING = {
    "a bound on tokens": 'start: "say " t "."\nt[max_tokens=5]: /[a-z ]*/',
    "a token of the text": 'start: <[5]> "ab" <[6]> /[a-z]*/',
    "tokens of the text": 'start: "ab" <[3,5-7]> "cd"',
    "any other token": 'start: "ab" <[^3]> "cd"',
}
LOOKED_AHEAD_IN = {
    "a suffix": 'start: "say " t "."\nt[suffix="!"]: /[a-z ]*/',
    "a lazy part": 'start: t " done"\nt[lazy]: /[a-z ]*!/',
    "special tokens": 'start: <[3]> "ab" <[4,3]> /[a-z]*/',
}


@pytest.mark.parametrize("text", AHEAD_OF_NOTHING.values(), ids=AHEAD_OF_NOTHING)
def test_what_the_library_cannot_take_back_is_not_looked_ahead_in(text: str):
    grammar = compiler().compile("lark", text)
    constraint, walk = grammar.start(), grammar.start()
    for _ in range(2):
        may = sorted(allowed(walk))
        assert constraint.forced() == () and constraint.allowed(may[:1]) == 0
        assert sorted(allowed(constraint)) == may, "looking ahead moved it on"
        for one in (constraint, walk):
            one.accept(may[0])


@pytest.mark.parametrize("text", LOOKED_AHEAD_IN.values(), ids=LOOKED_AHEAD_IN)
def test_what_it_takes_back_is(text: str):
    constraint = compiler().compile("lark", text).start()
    before = allowed(constraint)
    token = min(before)
    assert constraint.allowed([token]) == 1
    behind = allowed(Behind(constraint, [token]))
    assert allowed(constraint) == before
    constraint.accept(token)
    assert allowed(constraint) == behind


def test_a_way_back_that_fails_is_told_and_ends_the_text():
    constraint = compiler().compile("lark", AHEAD_OF_NOTHING["a bound on tokens"]).start()
    # As if the library had taken it back when it was tried.
    constraint._foreseeable = True
    with pytest.raises(ConstraintError, match="cannot go back"):
        constraint.allowed(sorted(allowed(constraint))[:1])
    with pytest.raises(ConstraintError):
        allowed(constraint)


def _thinking(budget: int, *, bound: bool, is_open: bool = True) -> ThinkingConstraint:
    answer = compiler().compile("regex", "yes|no").start() if bound else None
    return ThinkingConstraint(
        start_ids=[5, 6],
        end_ids=THOUGHT_END,
        budget=budget,
        is_open=is_open,
        vocab_size=VOCAB,
        eos_ids=[EOS],
        answer=answer,
    )


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("budget", [-1, 0, 1, 4, 9])
@pytest.mark.parametrize("is_open", [False, True])
def test_reasoning_tells_of_places_ahead_too(budget: int, bound: bool, is_open: bool):
    dice = np.random.default_rng(budget + 20)
    for _ in range(5):
        constraint, walk = (_thinking(budget, bound=bound, is_open=is_open) for _ in range(2))
        assert isinstance(constraint, ForeseeableConstraint)
        for _ in range(16):
            may = sorted(allowed(walk))
            # Mostly tokens of the end and the start, so that they are begun, met and missed.
            wishes = [int(one) for one in dice.choice([*THOUGHT_END, 5, 6, 20, EOS, *encode("yes")], size=5)]
            passed = constraint.allowed(wishes)
            for length in range(1, passed + 1):
                ahead, steps = _copy_of(walk, budget, bound=bound, is_open=is_open), wishes[:length]
                for token in steps:
                    assert token in allowed(ahead)
                    ahead.accept(token)
                assert allowed(Behind(constraint, steps)) == allowed(ahead)
            forced = constraint.forced()
            assert not forced or forced[0] in may
            assert set(may) == allowed(constraint), "looking ahead moved it on"
            token = next((one for one in wishes if one in may), may[0])
            constraint.accept(token)
            walk.accept(token)
            walk.way = [*getattr(walk, "way", []), token]
            if walk.finished:
                break


def _copy_of(walk: ThinkingConstraint, budget: int, *, bound: bool, is_open: bool) -> ThinkingConstraint:
    made = _thinking(budget, bound=bound, is_open=is_open)
    for token in getattr(walk, "way", []):
        made.accept(token)
    return made


def test_a_budget_that_is_used_up_forces_the_end():
    constraint = _thinking(2, bound=False)
    assert constraint.forced() == () and constraint.allowed([20, 21, 22]) == 2
    constraint.accept(20)
    constraint.accept(21)
    assert constraint.forced() == tuple(THOUGHT_END) and constraint.allowed([*THOUGHT_END, 9]) == len(
        THOUGHT_END
    )
