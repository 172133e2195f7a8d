"""Shares of a grant: never more than it, nothing left idle while a choice is short, one notice per total."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.server.grants import GrantShares


@settings(max_examples=200, deadline=None)
@given(
    limits=st.lists(st.integers(1, 300), min_size=1, max_size=8),
    total=st.integers(1, 600),
    data=st.data(),
)
def test_shares_never_exceed_the_grant_and_all_of_it_can_be_used(
    limits: list[int], total: int, data: st.DataObject
):
    grants = GrantShares(limits, total)
    made = [0] * len(limits)
    while True:
        assert sum(share.tokens for share in grants.shares) <= grants.total
        grants.top_up()
        going = [i for i, share in enumerate(grants.shares) if share.open and share.made < share.tokens]
        if not going:
            break
        index = data.draw(st.sampled_from(going))
        share = grants.shares[index]
        made[index] += data.draw(st.integers(1, share.tokens - share.made))
        share.made = made[index]
        if made[index] == limits[index] or data.draw(st.integers(0, 5)) == 0:
            grants.end(index)
    waiting = [index for index, share in enumerate(grants.shares) if share.open]
    assert sum(made) <= total
    if waiting:  # whoever still wants tokens has had all there were, and more was asked for
        assert sum(made) == total
        assert grants.take_notice() == total
        assert grants.take_notice() is None
        grants.extend(total + len(waiting) * 300)
        assert {index for index, _ in grants.top_up()} == set(waiting)
        assert all(grants.shares[index].tokens == limits[index] for index in waiting)


def test_a_total_is_never_lowered():
    grants = GrantShares([100, 100], 50)
    grants.extend(20)
    assert grants.total == 50
    assert [share.tokens for share in grants.shares] == [25, 25]


def test_a_single_choice_reports_what_it_made():
    grants = GrantShares([1000], 100)
    assert grants.take_notice() is None
    grants.shares[0].made = 40
    assert grants.take_notice() == 40
