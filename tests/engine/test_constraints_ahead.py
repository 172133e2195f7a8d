"""What a grammar tells of places behind tokens that are not accepted yet, over real schemas."""

import numpy as np
import pytest

from kindling_engine.constraints.base import Behind, ConstraintError, ForeseeableConstraint
from kindling_engine.constraints.thinking import ThinkingConstraint
from kindling_grammars import EOS, VOCAB, allowed, compiler, encode
from kindling_schema_bench import LAYOUTS, Case, cases_load

AHEAD = 6
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


def test_a_bound_on_reasoning_cannot_tell():
    thinking = ThinkingConstraint(start_ids=[], end_ids=[7], budget=3, is_open=True, vocab_size=VOCAB)
    assert not isinstance(thinking, ForeseeableConstraint)
