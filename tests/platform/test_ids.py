"""Ids sort by time and keys can be told from other texts offline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.ids import new_billing_id, new_billing_ids
from kindling_platform.common.ids import ID_CHARS, ID_MAX_CHARS, new_id, uuid7
from kindling_platform.keys import secret


def test_ids_are_short_distinct_and_in_order(monkeypatch: pytest.MonkeyPatch):
    for make in (new_id, new_billing_id):
        made = []
        for millisecond in range(200):
            monkeypatch.setattr(
                "time.time_ns", lambda at=millisecond: 1_790_000_000_000_000_000 + at * 1_000_000
            )
            made.append(make("org"))
        assert made == sorted(made)
        assert len(set(made)) == 200
        assert {len(text) for text in made} == {len("org_") + ID_CHARS}
        assert max(map(len, made)) <= ID_MAX_CHARS


def test_many_ids_at_once_are_as_those_made_one_by_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("time.time_ns", lambda: 1_790_000_000_000_000_000)
    made = new_billing_ids("ltx", 300)
    assert len(set(made)) == 300
    # Ten letters are the time, in the form that the platform's own ids have.
    assert {text[4:14] for text in (*made, new_billing_id("ltx"), new_id("ltx"))} == {made[0][4:14]}
    assert {len(text) for text in made} == {len("ltx_") + ID_CHARS}
    assert new_billing_ids("ltx", 0) == []


def test_a_uuid7_says_so():
    made = uuid7()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")


def test_a_new_key_is_well_formed_and_one_changed_letter_shows():
    text = secret.generate()
    assert secret.is_wellformed(text)
    for at in range(len("kd_live_"), len(text)):
        other = "A" if text[at] != "A" else "B"
        assert not secret.is_wellformed(text[:at] + other + text[at + 1 :])


@given(st.text(max_size=60))
def test_other_texts_are_no_keys(text: str):
    assert not secret.is_wellformed(text)


def test_a_digest_depends_on_the_pepper():
    text = secret.generate()
    assert secret.digest(text, "a") != secret.digest(text, "b")
    assert len(secret.digest(text, "a")) == 32
