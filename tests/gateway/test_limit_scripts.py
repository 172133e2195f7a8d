"""Rates, slots and budgets in a real Valkey, all or nothing."""

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling_admission import LEASE_MS, Desk
from kindling_billing.admission import BUDGET, HELD, LIMITED, MONEY, SLOTS, STALE, UNSEEN
from kindling_billing.limits import Limits, burst_of, charge_us, remaining, wait_us

DAY_MS = 86_400_000
MINUTE_MS = 60_000


def test_a_burst_passes_and_then_the_rate(valkey: redis.Redis):
    desk = Desk.of(valkey, key=Limits(requests_per_minute=120))
    assert [desk.ask(f"r{n}").state for n in range(21)] == [HELD] * 20 + [LIMITED]
    verdict = desk.ask("later")
    assert (verdict.scope, verdict.bucket, verdict.wait_us) == (0, 0, 500_000)
    desk.now_ms += 499
    assert desk.ask("later").state == LIMITED
    desk.now_ms += 1
    assert desk.ask("later").state == HELD


def test_what_is_refused_leaves_no_trace(valkey: redis.Redis):
    desk = Desk.of(
        valkey,
        organisation=Limits(requests_per_minute=60, concurrent_requests=2),
        key=Limits(budget_day_nano=50),
    )
    desk.ask("a", fixed=10)
    desk.ask("b", fixed=10)
    before = {key: valkey.dump(key) for key in desk.payer.script_keys}
    assert desk.ask("c", fixed=10).state == SLOTS
    assert desk.ask("c", fixed=1000).state == BUDGET
    assert {key: valkey.dump(key) for key in desk.payer.script_keys} == before


def test_the_tightest_scope_decides(valkey: redis.Redis):
    desk = Desk.of(valkey, organisation=Limits(requests_per_minute=100), member=Limits(requests_per_minute=5))
    states = [desk.ask(f"r{n}") for n in range(6)]
    assert [verdict.state for verdict in states] == [HELD] * 5 + [LIMITED]
    assert states[-1].scope == 1


@pytest.mark.parametrize(
    ("limits", "bucket"),
    [
        (Limits(prompt_tokens_per_minute=1000), 1),
        (Limits(uncached_tokens_per_minute=1000), 2),
        (Limits(generated_tokens_per_minute=1000), 3),
    ],
)
def test_each_token_bucket_counts_its_own_tokens(valkey: redis.Redis, limits: Limits, bucket: int):
    desk = Desk.of(valkey, key=limits)
    units = [1, 0, 0, 0]
    units[bucket] = 600
    assert desk.ask("a", units=tuple(units)).state == HELD
    verdict = desk.ask("b", units=tuple(units))
    assert (verdict.state, verdict.bucket, verdict.wait_us) == (LIMITED, bucket, 12_000_000)
    assert desk.ask("c", units=(1, *[0 if n == bucket else 600 for n in (1, 2, 3)])).state == HELD


def test_real_usage_replaces_the_estimate(valkey: redis.Redis):
    desk = Desk.of(valkey, key=Limits(prompt_tokens_per_minute=1000, generated_tokens_per_minute=1000))
    desk.ask("a", units=(1, 800, 800, 500))
    desk.finish("a", 0, corrections=(-700, -700, 300))
    offsets = desk.ask("b", units=(1, 0, 0, 0)).scopes[0].offsets_us
    assert (offsets[1], offsets[3]) == (100 * 60_000, 800 * 60_000)
    assert desk.ask("c", units=(1, 901, 0, 0)).state == LIMITED
    assert desk.ask("c", units=(1, 900, 0, 200)).state == HELD


def test_an_estimate_that_time_has_paid_for_is_not_given_back(valkey: redis.Redis):
    desk = Desk.of(valkey, key=Limits(prompt_tokens_per_minute=1000))
    desk.ask("slow", units=(1, 500, 500, 0))
    desk.now_ms += MINUTE_MS
    desk.ask("b", units=(1, 600, 600, 0))
    desk.finish("slow", 0, corrections=(-400, -400, 0))
    assert desk.ask("c", units=(1, 401, 401, 0)).state == LIMITED


def test_more_than_a_minutes_worth_passes_when_nothing_else_runs(valkey: redis.Redis):
    desk = Desk.of(valkey, key=Limits(prompt_tokens_per_minute=1000))
    assert desk.ask("huge", units=(1, 5000, 5000, 0)).state == HELD
    desk.finish("huge", 0, corrections=(4000, 4000, 0))
    desk.now_ms += 4 * MINUTE_MS
    assert desk.ask("next", units=(1, 1, 1, 0)).state == LIMITED
    desk.now_ms += MINUTE_MS
    assert desk.ask("next", units=(1, 1000, 1, 0)).state == HELD


def test_the_growth_of_a_running_request_counts_and_is_never_refused(valkey: redis.Redis):
    desk = Desk.of(
        valkey, key=Limits(requests_per_minute=1, generated_tokens_per_minute=600, concurrent_requests=1)
    )
    desk.ask("a", tokens=512, units=(1, 0, 0, 512))
    verdict = desk.ask("a", tokens=1024, units=(0, 0, 0, 512), is_first=False)
    assert (verdict.state, verdict.scopes[0].offsets_us[3]) == (HELD, 102_400_000)
    assert verdict.scopes[0].running == 1


def test_a_repeat_is_recognised(valkey: redis.Redis):
    desk = Desk.of(
        valkey, key=Limits(requests_per_minute=1, prompt_tokens_per_minute=10, concurrent_requests=1)
    )
    for _ in range(3):
        assert desk.ask("a", fixed=10, units=(1, 10, 10, 0)).state == HELD
    assert desk.ask("b", fixed=10, units=(1, 10, 10, 0)).state == SLOTS


def test_slots_are_leases(valkey: redis.Redis):
    desk = Desk.of(valkey, key=Limits(concurrent_requests=2))
    desk.ask("a")
    desk.ask("b")
    assert desk.ask("c").state == SLOTS
    desk.finish("a", 0)
    assert desk.ask("c").state == HELD
    desk.now_ms += LEASE_MS // 2
    desk.renew("c")
    desk.now_ms += LEASE_MS // 2
    assert [desk.ask(name).state for name in "de"] == [HELD, SLOTS]


def test_a_budget_ends_what_the_wallet_could_still_pay(valkey: redis.Redis):
    desk = Desk.of(
        valkey, key=Limits(budget_day_nano=100, budget_month_nano=150), member=Limits(budget_total_nano=300)
    )
    desk.spent(0, 40, before=60)
    desk.spent(1, 40, before=60)
    verdict = desk.ask("a", tokens=60, least=1)
    assert (verdict.state, verdict.tokens) == (HELD, 50)  # the month has 50 left, the day 60
    assert [state.left_nano for state in verdict.scopes] == [0, 150]
    refused = desk.ask("b", tokens=1)
    assert (refused.state, refused.scope, refused.period) == (BUDGET, 0, 1)
    desk.finish("a", 20)
    assert desk.ask("c", tokens=30).state == HELD
    desk.spent(0, 60, "a", version=2, before=60)
    assert desk.spending(0) == {"c": 30}


def test_a_new_day_begins_with_a_whole_budget(valkey: redis.Redis):
    desk = Desk.of(valkey, key=Limits(budget_day_nano=100))
    desk.spent(0, 100)
    assert desk.ask("a", fixed=1).state == BUDGET
    desk.now_ms += DAY_MS
    assert desk.ask("a", fixed=100).state == HELD


def test_a_budget_that_valkey_has_lost_is_asked_for(valkey: redis.Redis):
    desk = Desk.of(valkey, organisation=Limits(requests_per_minute=60), key=Limits(budget_day_nano=100))
    valkey.delete(*desk.payer.script_keys[8:])
    verdict = desk.ask("a")
    assert (verdict.state, verdict.unseen_wallet, verdict.unseen) == (UNSEEN, False, (1,))


def test_a_tokens_budget_counts_what_it_spent_itself(valkey: redis.Redis):
    desk = Desk.of(valkey, token=Limits(budget_total_nano=100))
    desk.ask("a", fixed=80)
    desk.finish("a", 30)
    assert desk.spending() == {}
    assert desk.ask("b", fixed=71).state == BUDGET
    assert desk.ask("b", fixed=70).state == HELD
    desk.finish("b", -1)
    assert desk.ask("c", fixed=70).state == HELD
    desk.finish("c", None)
    assert desk.ask("d", fixed=1).state == BUDGET


def test_a_key_that_changed_is_looked_up_again(valkey: redis.Redis):
    desk = Desk.of(valkey)
    valkey.set(desk.payer.script_keys[3], 5)
    verdict = desk.ask("a", epoch=4)
    assert (verdict.state, verdict.epoch, desk.held) == (STALE, 5, {})
    assert desk.ask("a", epoch=5).state == HELD


def test_money_is_named_before_limits(valkey: redis.Redis):
    desk = Desk.of(valkey, nano=1, key=Limits(requests_per_minute=1))
    desk.ask("a")
    assert desk.ask("b", fixed=2).state == MONEY


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 5000), st.lists(st.integers(0, 4000), min_size=1, max_size=60))
def test_no_minute_lets_more_through_than_limit_and_burst(
    valkey: redis.Redis, limit: int, gaps_ms: list[int]
):
    desk = Desk.of(valkey, key=Limits(requests_per_minute=limit))
    admitted: list[int] = []
    for number, gap in enumerate(gaps_ms):
        desk.now_ms += gap
        verdict = desk.ask(f"r{number}")
        if verdict.state == HELD:
            admitted.append(desk.now_ms)
        else:
            assert verdict.wait_us > 0
        state = verdict.scopes[0].offsets_us[0]
        assert state is not None
        left = remaining(state, limit=limit, burst=burst_of(0, limit))
        assert (left > 0) == (
            wait_us(state, 0, units=1, limit=limit, burst=burst_of(0, limit)) <= 0.5
        ) or left == 0
    for start in admitted:
        inside = sum(start <= moment < start + MINUTE_MS for moment in admitted)
        assert inside <= limit + burst_of(0, limit)


def test_bursts():
    assert [burst_of(0, limit) for limit in (1, 9, 30, 6000)] == [1, 9, 10, 1000]
    assert burst_of(1, 5000) == 5000
    assert charge_us(2, 120) == 1_000_000
