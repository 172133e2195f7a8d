"""Reasoning within an exact budget, and the answer behind it held to its grammar."""

from itertools import count

import pytest

from kindling_engine.constraints.base import TokenConstraint
from kindling_engine.constraints.thinking import ThinkingConstraint
from kindling_grammars import EOS, VOCAB, allowed, compiler, decode, encode

END = [7, 8, 9]
START = [5, 6]


def thinking(
    budget: int, *, end=END, start=START, is_open=True, answer: TokenConstraint | None = None, vocab=100
):
    return ThinkingConstraint(
        start_ids=start,
        end_ids=end,
        budget=budget,
        is_open=is_open,
        vocab_size=vocab,
        eos_ids=[EOS],
        answer=answer,
    )


def follow(constraint: ThinkingConstraint, wishes, *, length: int, vocab: int = 100) -> list[int]:
    """What comes out when a model wants these tokens, one after another, and is given what is allowed."""
    wishes, made = iter(wishes), []
    while len(made) < length:
        wish, may = next(wishes), allowed(constraint, vocab)
        token = wish if wish in may else min(may)
        constraint.accept(token)
        made.append(token)
    return made


@pytest.mark.parametrize("budget", [0, 1, 2, 5, 20])
def test_a_model_that_never_ends_reasons_exactly_as_long_as_it_may(budget: int):
    made = follow(thinking(budget), count(10), length=budget + 6)
    assert made[:budget] == list(range(10, 10 + budget))
    assert made[budget : budget + 3] == END
    assert len(made[budget + 3 :]) == 3


def test_without_a_budget_nothing_is_forced():
    constraint = thinking(-1)
    assert follow(constraint, count(10), length=60) == list(range(10, 70))
    assert constraint.reasoning


def test_a_model_that_ends_by_itself_is_left_alone():
    constraint = thinking(10)
    wishes = [20, 21, *END, 30, *END, *range(40, 60)]
    assert follow(constraint, wishes, length=20) == wishes[:20]
    assert not constraint.reasoning


def test_an_end_that_is_begun_before_the_border_is_completed_behind_it():
    # Two tokens of reasoning, then the model's own end begins with the last token of the budget.
    made = follow(thinking(3), [20, 21, 7, 50, 51, 60, 61], length=7)
    assert made == [20, 21, 7, 8, 9, 60, 61]


def test_an_end_that_falls_through_before_the_border_counts_as_reasoning():
    made = follow(thinking(4), [7, 8, 7, 20, 50, 51, 52, 60], length=8)
    assert made == [7, 8, 7, 20, *END, 60]


@pytest.mark.parametrize(
    ("end", "wishes", "reasoning"),
    [
        ([7, 7, 8], [20, 7, 7, 7, 8, 30], [20, 7]),
        ([7, 8, 7, 9], [7, 8, 7, 8, 7, 9, 30], [7, 8]),
        ([7, 7, 7], [7, 20, 7, 7, 7, 30], [7, 20]),
    ],
)
def test_ends_that_overlap_themselves_are_found(end: list[int], wishes: list[int], reasoning: list[int]):
    constraint = thinking(-1, end=end)
    made = follow(constraint, wishes, length=len(wishes))
    assert made == [*reasoning, *end, 30]
    assert not constraint.reasoning


@pytest.mark.parametrize("budget", range(9))
def test_the_reasoning_never_exceeds_its_budget(budget: int):
    # A model that keeps beginning its end and thinks better of it.
    made = follow(thinking(budget, end=[7, 7, 8]), [7, 7, 20] * 10, length=25)
    text = ",".join(map(str, made))
    before = text.split("7,7,8")[0]
    assert "7,7,8" in text
    assert len([one for one in before.split(",") if one]) <= budget


def test_reasoning_that_is_not_open_begins_with_its_start():
    constraint = thinking(2, is_open=False)
    assert follow(constraint, [*START, 20, 21, 22, 23, 24, 60], length=8) == [*START, 20, 21, *END, 60]


def test_an_answer_without_reasoning_has_no_budget():
    constraint = thinking(2, is_open=False)
    wishes = [20, *START, *range(30, 50)]
    assert follow(constraint, wishes, length=20) == wishes[:20]


def test_a_grammar_binds_the_answer_and_not_the_reasoning():
    grammar = compiler().compile("regex", "yes|no")
    end = encode("</think>")
    constraint = thinking(5, end=end, answer=grammar.start(), vocab=VOCAB)
    wishes = [*encode("Let me think about this for a while, friend.")[:12], *encode("whatever")]
    made = []
    for wish in [*wishes, *[wish for wish in encode("maybe not") for _ in range(9)]]:
        if constraint.finished:
            break
        may = allowed(constraint)
        assert EOS not in may or not constraint.reasoning
        token = wish if wish in may else min(may - {EOS} or may)
        constraint.accept(token)
        made.append(token)
    assert made[:5] == wishes[:5]
    assert made[5 : 5 + len(end)] == end
    assert decode(made[5 + len(end) :]) in ("yes", "no")
    assert constraint.finished


def test_a_constrained_answer_may_come_without_reasoning():
    grammar = compiler().compile("regex", "yes|no")
    start, end = encode("<think>"), encode("</think>")
    constraint = thinking(5, start=start, end=end, is_open=False, answer=grammar.start(), vocab=VOCAB)
    assert start[0] in allowed(constraint)
    for token in encode("yes"):
        assert token in allowed(constraint)
        constraint.accept(token)
    assert constraint.finished


def test_a_start_once_begun_is_completed_before_a_constrained_answer():
    grammar = compiler().compile("regex", "yes|no")
    constraint = thinking(1, start=[50, 51], end=[60], is_open=False, answer=grammar.start(), vocab=VOCAB)
    constraint.accept(50)
    assert allowed(constraint) == {51}
    constraint.accept(51)
    assert allowed(constraint) == set(range(VOCAB)) - {EOS}
    constraint.accept(EOS + 100)
    assert allowed(constraint) == {60}
    constraint.accept(60)
    assert constraint.reasoning is False
    assert 60 not in allowed(constraint)


@pytest.mark.parametrize("wrong", [{"end": []}, {"end": [100]}, {"start": [-1]}, {"budget": -2}])
def test_a_sequence_that_cannot_be_made_is_refused(wrong: dict):
    with pytest.raises(ValueError, match="thinking"):
        thinking(**{"budget": 1, **wrong})
