"""The scripts in a real Valkey: never more held than there is, whatever comes in which order."""

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling_admission import LEASE_MS, Desk
from kindling_billing import holds
from kindling_billing.admission import HELD, MONEY, UNSEEN
from kindling_billing.admission_scripts import LOOK_KEYS


@pytest.fixture
def desk(valkey: redis.Redis) -> Desk:
    return Desk.of(valkey, nano=100)


def take(desk: Desk, request_id: str, nano: int) -> tuple[str, int]:
    verdict = desk.ask(request_id, fixed=nano)
    return verdict.state, verdict.left_nano


def test_an_unknown_wallet_says_so(valkey: redis.Redis):
    desk = Desk.of(valkey, nano=None)
    verdict = desk.ask("a", fixed=1)
    assert (verdict.state, verdict.unseen_wallet, verdict.unseen) == (UNSEEN, True, ())
    assert desk.held == {}


def test_holds_add_up_to_the_balance_and_no_further(desk: Desk):
    assert take(desk, "a", 60) == (HELD, 40)
    assert take(desk, "b", 41) == (MONEY, 40)
    assert take(desk, "b", 40) == (HELD, 0)
    assert take(desk, "c", 1) == (MONEY, 0)


def test_as_many_tokens_as_the_money_buys(desk: Desk):
    verdict = desk.ask("a", fixed=10, tokens=50, price=7, least=1)
    assert (verdict.state, verdict.tokens, verdict.left_nano) == (HELD, 12, 6)
    assert desk.held == {"a": 94}
    assert desk.ask("b", tokens=1, price=7).state == MONEY


def test_a_hold_is_replaced_by_its_new_total(desk: Desk):
    take(desk, "a", 60)
    assert take(desk, "a", 90) == (HELD, 10)
    assert take(desk, "a", 101) == (MONEY, 100)
    assert desk.held == {"a": 90}


def test_a_hold_moves_to_another_request(desk: Desk):
    take(desk, "a", 60)
    assert desk.ask("b", fixed=90, taken_from="a").state == HELD
    assert desk.held == {"b": 90}
    assert desk.ask("c", fixed=120, taken_from="b").state == MONEY
    assert desk.held == {"b": 90}


def test_a_promise_stays_when_the_balance_shrinks(desk: Desk):
    take(desk, "a", 60)
    desk.posted(10, version=2)
    assert take(desk, "a", 60)[0] == HELD
    assert take(desk, "a", 61)[0] == MONEY


def test_nothing_is_held_for_free_even_below_zero(valkey: redis.Redis):
    desk = Desk.of(valkey, nano=-5)
    assert take(desk, "a", 0)[0] == HELD
    assert take(desk, "b", 1)[0] == MONEY


def test_settling_frees_what_was_not_used(desk: Desk):
    take(desk, "a", 80)
    desk.finish("a", 30)
    assert take(desk, "b", 70) == (HELD, 0)


def test_settling_the_unknown_keeps_all(desk: Desk):
    take(desk, "a", 80)
    desk.finish("a", None)
    assert desk.held == {"a": 80}


def test_a_request_that_costs_nothing_frees_all(desk: Desk):
    take(desk, "a", 80)
    desk.finish("a", -1)
    assert desk.held == {}


def test_settling_after_the_rater_does_nothing(desk: Desk):
    take(desk, "a", 80)
    desk.posted(70, "a", version=2)
    desk.finish("a", 30)
    assert desk.held == {}
    assert take(desk, "b", 70)[0] == HELD


def test_what_ended_while_valkey_was_away_is_put_back(desk: Desk):
    desk.finish("a", 30, put_back=True)
    assert desk.held == {"a": 30}
    assert take(desk, "b", 71)[0] == MONEY


def test_an_older_balance_never_replaces_a_newer_one(desk: Desk):
    take(desk, "a", 10)
    take(desk, "b", 10)
    assert desk.posted(50, "a", version=5) == 1
    assert desk.posted(90, "b", version=4) == 0  # b's cost is in the newer balance already
    assert desk.seed(90, version=4) == 0
    assert desk.held == {}
    assert take(desk, "c", 51)[0] == MONEY


def test_a_hold_ends_with_its_lease(desk: Desk):
    take(desk, "a", 80)
    desk.now_ms += LEASE_MS - 1
    assert take(desk, "b", 50)[0] == MONEY
    desk.now_ms += 1
    assert take(desk, "b", 50)[0] == HELD
    assert desk.held == {"b": 50}


def test_renewing_keeps_a_hold_but_brings_none_back(desk: Desk):
    take(desk, "a", 80)
    desk.now_ms += LEASE_MS // 2
    assert desk.renew("a") == 1
    desk.now_ms += LEASE_MS // 2 + 1
    assert take(desk, "b", 50)[0] == MONEY
    desk.finish("a", -1)
    assert desk.renew("a") == 0


def test_an_emptied_wallet_gets_its_holds_back(desk: Desk):
    take(desk, "a", 80)
    desk.valkey.delete(*desk.payer.script_keys)
    assert desk.renew("a", put_back_nano=80) == 1
    desk.seed(100)
    assert take(desk, "b", 21)[0] == MONEY
    assert take(desk, "b", 20)[0] == HELD


def test_money_beyond_a_lua_doubles_shorthand_stays_exact(valkey: redis.Redis):
    much = 123_456_789_012_345
    desk = Desk.of(valkey, nano=much)
    desk.ask("a", fixed=7_000_000_000_000)
    desk.posted(much, version=2)
    assert desk.ask("b", fixed=1).left_nano == much - 7_000_000_000_001


def test_a_process_puts_a_small_part_aside(desk: Desk):
    desk.ration_nano = 1000
    there = desk.elsewhere("p2")
    assert desk.ask("a", fixed=20).ration_nano == 4  # a twentieth of what is left
    verdict = there.ask("b", fixed=16)
    assert (verdict.processes, verdict.left_nano, verdict.ration_nano) == (2, 60, 3)
    # One's own ration is one's own to spend; the others' are not, until their owners find too little.
    assert take(there, "c", 61)[0] == MONEY
    assert take(there, "c", 60)[0] == HELD
    assert take(desk, "d", 5)[0] == MONEY
    assert take(there, "d", 4)[0] == HELD


def test_a_refusal_calls_back_what_others_set_aside_if_that_were_enough(desk: Desk):
    desk.ration_nano = 1000
    there, recalls = desk.elsewhere("p2"), LOOK_KEYS[1]
    desk.ask("a", fixed=20)  # four are set aside
    there.ask("b", fixed=76)
    assert take(there, "c", 5)[0] == MONEY
    assert desk.valkey.zscore(recalls, desk.payer.owner_id) is None
    assert take(there, "c", 4)[0] == MONEY
    assert desk.valkey.zscore(recalls, desk.payer.owner_id) == desk.now_ms


def test_a_ration_ends_with_its_lease(desk: Desk):
    desk.ration_nano = 1000
    desk.ask("a", fixed=1)
    desk.now_ms += LEASE_MS
    assert desk.elsewhere("p2").ask("b", fixed=100).state == HELD


def test_rounding_never_favours_the_spender():
    assert (holds.balance_nano(1999), holds.balance_nano(-1)) == (1, -1)
    assert (holds.hold_nano(1), holds.hold_nano(1000), holds.hold_nano(0)) == (1, 1, 0)


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["acquire", "settle", "release", "posted", "seed", "renew", "restore", "move", "later"]
        ),
        st.sampled_from("abcd"),
        st.integers(0, 120),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_the_running_sum_is_the_sum(valkey: redis.Redis, steps: list[tuple[str, str, int]]):
    desk = Desk.of(valkey, nano=100)
    version = 1
    for action, name, amount in steps:
        match action:
            case "acquire" | "move":
                before = desk.held.get(name, 0)
                verdict = desk.ask(name, fixed=amount, taken_from="a" if action == "move" else "")
                assert verdict.state in (HELD, MONEY)
                if verdict.state == HELD and amount > before and action == "acquire":
                    assert verdict.left_nano >= 0
            case "settle":
                desk.finish(name, min(amount, desk.held.get(name, 0)))
            case "release":
                desk.finish(name, -1)
            case "posted":
                version += 1
                desk.posted(100, name, version=version)
            case "seed":
                desk.seed(100, version=version)
            case "renew":
                desk.renew(name)
            case "restore":
                desk.renew(name, put_back_nano=amount)
            case "later":
                desk.now_ms += amount * 1000
        assert desk.sum == sum(desk.held.values())
