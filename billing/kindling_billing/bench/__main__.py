"""`python -m kindling_billing.bench`: needs neither Django nor a database."""

import argparse
import json
import resource
import sys
import time

from kindling_billing.bench.month import month_exact, month_rate, month_rerate

FULL, QUICK = 1_000_000, 100_000


def main() -> int:
    """Run it and print its figures; the exit status says whether every sum was exact."""
    parser = argparse.ArgumentParser(prog="kindling bench rating", description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="the last line on standard output is one JSON object"
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} events instead of {FULL:,}")
    parser.add_argument("--device", default="cpu", choices=["cpu"], help="there is no other")
    asked = parser.parse_args()
    figures = rating_bench(QUICK if asked.quick else FULL)
    out = sys.stderr if asked.json else sys.stdout
    for name, value in figures.items():
        out.write(
            f"{name:<14} {value:>14,}\n" if not isinstance(value, bool) else f"{name:<14} {value!s:>14}\n"
        )
    if asked.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if figures["exact"] else 1


def rating_bench(events: int) -> dict[str, int | float | bool]:
    """Rate a month, make its invoices, rate it anew, make them again."""
    begun = time.perf_counter()
    month = month_rate(events)
    exact = month_exact(month)
    changed = month_rerate(month, events)
    exact = month_exact(month) and exact and changed > 0 and month.events == events
    seconds = time.perf_counter() - begun
    return {
        "events": events,
        "seconds": round(seconds, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "exact": exact,
        "rerated": changed,
    }


if __name__ == "__main__":
    sys.exit(main())
