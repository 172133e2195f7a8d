"""The invariants of the reliability bench on a running stack: they hold, and each notices what breaks it."""

import subprocess
import sys

import pytest

from kindling_platform.embedded.bench_reliability.books import violations_find
from kindling_platform.embedded.bench_reliability.kills import Seen
from kindling_platform.embedded.bench_reliability.owners import ownerless
from kindling_platform.embedded.bench_reliability.payments import topup_begin, topup_pay
from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.home import Home
from kindling_stack import Stack
from kindling_tenant import poll

pytestmark = pytest.mark.stack


@pytest.fixture
def target(stack: Stack) -> Target:
    return Target(Home(stack.home), stack.state)


def test_they_hold_after_answers_and_a_payment(target: Target):
    reply = target.chat(max_tokens=5)
    seen = [Seen(reply.headers["x-request-id"], complete=True, tokens=5)]
    topup_pay(target, topup_begin(target))
    found = violations_find(target, seen, refused=["no-such-request"], minutes_above=0)
    assert found == {f"I{number}": 0 for number in range(1, 11)}


def test_they_notice_what_is_told_otherwise(target: Target):
    request_id = target.chat(max_tokens=5).headers["x-request-id"]
    seen = [Seen(request_id, complete=True, tokens=6), Seen("no-such-request", complete=True)]
    found = violations_find(target, seen, refused=[request_id], minutes_above=3)
    assert {name: count for name, count in found.items() if count} == {"I1": 2, "I8": 3, "I9": 1}


def test_a_process_without_an_owner_is_found(target: Target, stack: Stack):
    assert ownerless(target.supervisor_pid, str(stack.home)) == []
    waiting = "import sys; sys.stdin.read()"
    stray = subprocess.Popen([sys.executable, "-c", waiting, str(stack.home)], stdin=subprocess.PIPE)
    try:
        poll(lambda: ownerless(target.supervisor_pid, str(stack.home)), lambda found: found == [stray.pid])
    finally:
        stray.communicate()
