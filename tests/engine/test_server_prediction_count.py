"""How many of a prediction's tokens an answer has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_engine.server.prediction_count import PredictionCount

TOKENS = st.lists(st.integers(5, 60_000), max_size=40)


def counted(prediction: list[int], answer: list[int]) -> int:
    count = PredictionCount(prediction)
    for token in answer:
        count.feed(token)
    return count.tokens


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (range(100, 120), 20),
        ([], 0),
        (range(500, 520), 0),
        ([*range(100, 110), 7, *range(111, 120)], 19),  # one took another's place
        ([*range(100, 105), 7, 8, 9, *range(110, 120)], 5 + 7),  # the place is found again by three tokens
        ([7, 8, *range(100, 120)], 17),
        ([*range(100, 120), *range(100, 120)], 20),  # none twice
        ([*range(100, 120), 1, 2, 3, 4], 20),
        (range(110, 120), 7),
    ],
)
def test_what_an_answer_has_of_it(answer, expected: int):
    assert counted(list(range(100, 120)), list(answer)) == expected


@given(TOKENS, TOKENS)
def test_no_more_than_either_has(prediction: list[int], answer: list[int]):
    assert 0 <= counted(prediction, answer) <= min(len(prediction), len(answer))
    assert counted(prediction, prediction) == len(prediction)
