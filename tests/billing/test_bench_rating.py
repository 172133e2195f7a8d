"""The bench of rating: its keys, and that it would notice a sum that is off."""

import json
import subprocess
import sys

from kindling_billing.bench.month import month_exact, month_rate, month_rerate
from kindling_billing.rating import Line
from kindling_platform.cli.forward import forward_argv


def test_a_small_month_is_exact_before_and_after_it_is_rated_anew():
    month = month_rate(3000)
    assert month_exact(month)
    assert month_rerate(month, 3000) > 100
    assert month_exact(month)


def test_one_unit_too_many_is_noticed():
    month = month_rate(500)
    month.move("org_000", "mdl_00", (Line("output", 1, 1),), 1)
    assert not month_exact(month)


def test_the_command_prints_the_agreed_keys_and_needs_no_database():
    argv = forward_argv(["bench", "rating", "--quick", "--json"])
    assert argv == [sys.executable, "-m", "kindling_billing.bench", "--quick", "--json"]
    program = (
        "import json, sys; from kindling_billing.bench.__main__ import rating_bench;"
        "print(json.dumps([rating_bench(2000), sorted(set(sys.modules) & {'django', 'psycopg'})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    figures, loaded = json.loads(done.stdout)
    assert set(figures) >= {"events", "seconds", "peak_rss_mb", "exact"}
    assert (figures["events"], figures["exact"], loaded) == (2000, True, [])
