"""The scripts in a real Valkey: never more held than there is, whatever comes in which order."""

import itertools
from collections.abc import Callable

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling_billing import holds
from kindling_billing.holds import HELD, NEVER_SEEN, REFUSED, HoldReply

NOW = 1_700_000_000_000
LEASE = 60_000
owners = (f"org_{number}" for number in itertools.count())


class Wallet:
    """One owner's wallet, driven by the scripts."""

    def __init__(self, valkey: redis.Redis) -> None:
        self.valkey = valkey
        self.owner = next(owners)
        valkey.delete(*holds.script_keys(self.owner))

    def run(self, script: str, args: list[str]):
        return self.valkey.eval(holds.SCRIPTS[script], 2, *holds.script_keys(self.owner), *args)

    def seed(self, nano: int, *, version: int = 1, now: int = NOW) -> int:
        return self.run("seed", holds.seed_args(version=version, balance_picousd=nano * 1000, now_ms=now))

    def acquire(self, request_id: str, nano: int, *, now: int = NOW) -> HoldReply:
        args = holds.acquire_args(request_id=request_id, total_nano=nano, now_ms=now, lease_ms=LEASE)
        return holds.acquire_reply(self.run("acquire", args))

    def settle(self, request_id: str, nano: int) -> int:
        args = holds.settle_args(request_id=request_id, actual_nano=nano, expires_ms=NOW + LEASE)
        return self.run("settle", args)

    def posted(self, nano: int, *request_ids: str, version: int) -> int:
        args = holds.posted_args(version=version, balance_picousd=nano * 1000, request_ids=list(request_ids))
        return self.run("posted", args)

    @property
    def sum(self) -> int:
        return int(self.valkey.hget(holds.wallet_key(self.owner), "h"))

    @property
    def each(self) -> dict[str, int]:
        rows = self.valkey.hgetall(holds.holds_key(self.owner))
        return {name.decode(): int(value.split(b":")[0]) for name, value in rows.items()}


@pytest.fixture
def wallet(valkey: redis.Redis) -> Wallet:
    return Wallet(valkey)


def test_an_unknown_wallet_says_so(wallet: Wallet):
    assert wallet.acquire("a", 1).state == NEVER_SEEN
    assert wallet.each == {}


def test_holds_add_up_to_the_balance_and_no_further(wallet: Wallet):
    wallet.seed(100)
    assert wallet.acquire("a", 60) == HoldReply(HELD, 40)
    assert wallet.acquire("b", 41) == HoldReply(REFUSED, 40)
    assert wallet.acquire("b", 40) == HoldReply(HELD, 0)
    assert wallet.acquire("c", 1) == HoldReply(REFUSED, 0)


def test_a_hold_is_replaced_by_its_new_total(wallet: Wallet):
    wallet.seed(100)
    wallet.acquire("a", 60)
    assert wallet.acquire("a", 90) == HoldReply(HELD, 10)
    assert wallet.acquire("a", 101) == HoldReply(REFUSED, 100)
    assert wallet.each == {"a": 90}


def test_a_promise_stays_when_the_balance_shrinks(wallet: Wallet):
    wallet.seed(100)
    wallet.acquire("a", 60)
    wallet.posted(10, version=2)
    assert wallet.acquire("a", 60).state == HELD
    assert wallet.acquire("a", 61).state == REFUSED


def test_nothing_is_held_for_free_even_below_zero(wallet: Wallet):
    wallet.seed(-5)
    assert wallet.acquire("a", 0).state == HELD
    assert wallet.acquire("b", 1).state == REFUSED


def test_settling_frees_what_was_not_used(wallet: Wallet):
    wallet.seed(100)
    wallet.acquire("a", 80)
    assert wallet.settle("a", 30) == 1
    assert wallet.acquire("b", 70).state == HELD


def test_settling_after_the_rater_does_nothing(wallet: Wallet):
    wallet.seed(100)
    wallet.acquire("a", 80)
    wallet.posted(70, "a", version=2)
    assert wallet.settle("a", 30) == 0
    assert wallet.each == {}
    assert wallet.acquire("b", 70).state == HELD


def test_an_older_balance_never_replaces_a_newer_one(wallet: Wallet):
    wallet.seed(100)
    wallet.acquire("a", 10)
    wallet.acquire("b", 10)
    assert wallet.posted(50, "a", version=5) == 1
    assert wallet.posted(90, "b", version=4) == 0  # b's cost is in the newer balance already
    assert wallet.seed(90, version=4) == 0
    assert wallet.each == {}
    assert wallet.acquire("c", 51).state == REFUSED


def test_a_hold_ends_with_its_lease(wallet: Wallet):
    wallet.seed(100)
    wallet.acquire("a", 80)
    assert wallet.acquire("b", 50, now=NOW + LEASE - 1).state == REFUSED
    assert wallet.acquire("b", 50, now=NOW + LEASE).state == HELD
    assert wallet.each == {"b": 50}


def test_renewing_keeps_a_hold_but_brings_none_back(wallet: Wallet):
    wallet.seed(100)
    wallet.acquire("a", 80)
    renew = holds.renew_args(request_id="a", expires_ms=NOW + 3 * LEASE)
    assert wallet.run("renew", renew) == 1
    assert wallet.acquire("b", 50, now=NOW + 2 * LEASE).state == REFUSED
    wallet.run("release", holds.release_args(request_id="a"))
    assert wallet.run("renew", renew) == 0


def test_money_beyond_a_lua_doubles_shorthand_stays_exact(wallet: Wallet):
    much = 123_456_789_012_345
    wallet.seed(much)
    assert wallet.acquire("a", much - 1) == HoldReply(HELD, 1)
    assert wallet.acquire("b", 2) == HoldReply(REFUSED, 1)


def test_rounding_never_favours_the_spender():
    assert (holds.balance_nano(1999), holds.balance_nano(-1)) == (1, -1)
    assert (holds.hold_nano(1), holds.hold_nano(1000), holds.hold_nano(0)) == (1, 1, 0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "settle", "release", "posted", "seed", "renew", "later"]),
        st.sampled_from("abcd"),
        st.integers(0, 120),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_the_running_sum_is_the_sum(valkey: redis.Redis, steps: list[tuple[str, str, int]]):
    wallet = Wallet(valkey)
    wallet.seed(100)
    now, version = NOW, 1
    for action, name, amount in steps:
        match action:
            case "acquire":
                before = wallet.each.get(name, 0)
                reply = wallet.acquire(name, amount, now=now)
                assert reply.state in (HELD, REFUSED)
                if reply.state == HELD and amount > before:
                    assert reply.available_nano >= 0
            case "settle":
                wallet.settle(name, min(amount, wallet.each.get(name, 0)))
            case "release":
                wallet.run("release", holds.release_args(request_id=name))
            case "posted":
                version += 1
                wallet.posted(100, name, version=version)
            case "seed":
                wallet.seed(100, version=version, now=now)
            case "renew":
                wallet.run("renew", holds.renew_args(request_id=name, expires_ms=now + LEASE))
            case "later":
                now += amount * 1000
        assert wallet.sum == sum(wallet.each.values())


def test_the_scripts_load_by_their_digests(valkey: redis.Redis):
    run: Callable[..., object] = valkey.register_script(holds.POSTED)
    owner = next(owners)
    assert run(
        keys=holds.script_keys(owner), args=holds.posted_args(version=1, balance_picousd=5, request_ids=[])
    )
