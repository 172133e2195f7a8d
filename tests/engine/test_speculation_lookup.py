"""Guesses from the text itself and from what it is predicted to become."""

import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.speculation.lookup import Guess, TextLookup
from kindling_examples import examples


def _guess(tokens: list[int], count: int = 8, *, prompt: int = 0, prediction: tuple[int, ...] = ()):
    return TextLookup(prediction).guess(tokens, prompt, count)


def test_what_followed_the_last_three_tokens_follows_again():
    text = [1, 2, 3, 4, 5, 6, 9, 9, 1, 2, 3]
    assert _guess(text, 4).tokens == (4, 5, 6, 9)


def test_the_latest_place_counts():
    assert _guess([1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3], 2).tokens == (8, 1)


def test_a_text_that_repeats_goes_on_repeating():
    assert _guess([4, 4, 4, 4], 6).tokens == (4,) * 6
    assert _guess([5, 6, 7, 5, 6, 7], 7).tokens == (5, 6, 7, 5, 6, 7, 5)


def test_a_new_end_gives_none():
    assert _guess([1, 2, 3, 4, 5]) is None
    assert _guess([1, 2]) is None


def test_a_match_across_the_bytes_of_tokens_is_none_and_takes_no_search_of_its_own():
    # As little-endian words one of these reads as the other, a byte further on.
    lookup, calls = TextLookup([256] * 5_000), []
    lookup.guess([9, 9, 9, 9], 4, 8)
    sys.setprofile(lambda frame, event, called: calls.append(called) if event == "c_call" else None)
    try:
        found = lookup.guess([9, 9, 9, 9, 1, 1, 1], 4, 8)
    finally:
        sys.setprofile(None)
    assert found is None and len(calls) < 60


def test_any_token_can_be_looked_up():
    # Half a surrogate pair, and what some take for a mark of the order of bytes.
    odd = [0xD800, 0xDFFF, 0xFEFF, 0xFFFE, 0xFFFF, 0x10FFFE]
    assert _guess([*odd, 7, *odd], 3).tokens == (7, 0xD800, 0xDFFF)


def test_much_in_common_makes_it_firm():
    long = [*range(20, 30), 5, 6, *range(20, 30)]
    assert _guess(long, 2).kind == "firm"
    assert _guess([1, 2, 3, 4, 8, 1, 2, 3], 2).kind == "loose"


def test_a_prediction_is_followed_from_the_start():
    lookup = TextLookup((11, 12, 13, 14))
    assert lookup.guess([1, 2], 2, 8).tokens == (11, 12, 13, 14)
    assert lookup.guess([1, 2, 11], 2, 2).tokens == (12, 13)


def test_behind_one_other_token_the_prediction_goes_on_less_surely():
    lookup = TextLookup((11, 12, 13, 14, 15))
    found = lookup.guess([1, 11, 99], 1, 8)
    assert found == Guess((13, 14, 15), "loose")
    assert lookup.guess([1, 11, 99, 13], 1, 8).kind == "firm"


def test_behind_several_other_tokens_it_is_found_again():
    lookup = TextLookup((11, 12, 13, 14, 15, 16, 17))
    assert lookup.guess([1, 11, 80, 81], 1, 8) is None
    assert lookup.guess([1, 11, 80, 81, 12, 13, 14], 1, 8).tokens == (15, 16, 17)


def test_it_is_found_again_further_on_and_not_before():
    lookup = TextLookup((5, 6, 7, 1, 5, 6, 7, 2))
    assert lookup.guess([9, 5, 6, 7, 1, 80, 81, 5, 6, 7], 1, 1).tokens == (2,)


def test_an_answer_longer_than_its_prediction_goes_by_the_text():
    lookup = TextLookup((5, 6))
    assert lookup.guess([1, 2, 3, 4, 5, 6], 4, 4) is None
    assert lookup.guess([1, 2, 3, 4, 5, 6, 1, 2, 3], 4, 2).tokens == (4, 5)


def test_nothing_is_read_across_the_end_of_a_prediction():
    lookup = TextLookup((1, 2, 3))
    assert lookup.guess([8, 9, 9, 1, 2, 3], 3, 8) is None


def test_behind_the_end_of_a_prediction_the_prompt_does_not_begin_anew():
    for known in ([], [1, 2, 3, 4]):
        lookup = TextLookup((5, 6))
        if known:
            lookup.guess(known, 4, 4)
        assert lookup.guess([1, 2, 3, 4, 5, 6], 4, 4) is None
        assert lookup.guess([1, 2, 3, 4, 5, 6, 9], 4, 4) is None
    # Nor where its last token was another one.
    lookup = TextLookup((5, 6))
    assert lookup.guess([1, 2, 3, 4, 5, 8, 1], 4, 4) is None


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 9))
def test_a_text_is_guessed_as_a_plain_search_would(text, count):
    places = [at for at in range(len(text) - 3) if text[at : at + 3] == text[-3:]]
    found = _guess(text, count)
    if not places or len(text) < 4:
        assert found is None
        return
    longer = list(text)
    for _ in range(count):
        longer.append(longer[len(longer) - len(text) + places[-1] + 3])
    assert list(found.tokens) == longer[len(text) :]


def test_a_place_is_followed_past_one_other_token():
    source = list(range(100, 130))
    lookup = TextLookup()
    text = [*source, 7, *source[:9]]
    assert lookup.guess(text, 31, 2).tokens == (109, 110)
    text += [109, 50]
    found = lookup.guess(text, 31, 2)
    assert found == Guess((111, 112), "loose")
    text.append(111)
    assert lookup.guess(text, 31, 2) == Guess((112, 113), "firm")
    assert lookup.guess([*text, 51, 52], 31, 2) is None


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=20),
    st.lists(st.integers(0, 5), min_size=1, max_size=40),
    st.integers(0, 10),
)
def test_any_prediction_gives_tokens_of_its_own_or_of_the_text(prediction, text, prompt):
    lookup = TextLookup(prediction)
    for size in range(min(prompt, len(text) - 1) + 1, len(text) + 1):
        found = lookup.guess(text[:size], min(prompt, size - 1), 6)
        if found is not None:
            assert 1 <= len(found.tokens) <= 6
            assert set(found.tokens) <= {*prediction, *text[:size]}
