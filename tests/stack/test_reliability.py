"""Gateway and engine are killed in turns under fifty streams, again and again; no invariant breaks."""

import pytest

from kindling_platform.embedded.bench_reliability.bench import LOOPS, reliability_bench

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(1800)]


def test_kill_loops_break_nothing():
    found = reliability_bench(quick=False)
    assert found.kill_loops == LOOPS
    assert found.requests >= 50 * LOOPS * 0.9
    assert set(found.violations) == {"I1", "I2", "I3", "I5", "I7"}
    assert not any(found.violations.values()), found.violations
