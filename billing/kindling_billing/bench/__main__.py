"""`python -m kindling_billing.bench`: a month that is rated; the same in a ledger where settings name one."""

import argparse
import gc
import json
import os
import resource
import sys
import time

from kindling_billing.bench.month import month_exact, month_rate, month_rerate

FULL, QUICK = 1_000_000, 100_000
# A ledger takes a transaction for each event: who is in a hurry has it take a tenth.
POSTED_QUICK = QUICK // 10
WIDTH = 40
Figures = dict[str, int | float | bool]


def main() -> int:
    """Run it and print its figures; the exit status says whether every sum was exact."""
    parser = argparse.ArgumentParser(prog="./kindling bench rating", description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="the last line on standard output is one JSON object"
    )
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} events instead of {FULL:,}")
    parser.add_argument("--device", default="cpu", choices=["cpu"], help="there is no other")
    asked = parser.parse_args()
    events = QUICK if asked.quick else FULL
    figures = rating_bench(events)
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        posted = posting_bench(POSTED_QUICK if asked.quick else FULL)
        figures |= posted | {"exact": figures["exact"] and posted["exact"]}
    out = sys.stderr if asked.json else sys.stdout
    for name, value in figures.items():
        out.write(
            f"{name:<16} {value:>14,}\n" if not isinstance(value, bool) else f"{name:<16} {value!s:>14}\n"
        )
    if asked.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    return 0 if figures["exact"] else 1


def rating_bench(events: int) -> Figures:
    """Rate a month, make its invoices, rate it anew, make them again, all in memory."""
    begun = time.perf_counter()
    month = month_rate(events)
    exact = month_exact(month)
    changed = month_rerate(month, events)
    exact = month_exact(month) and exact and changed > 0 and month.events == events
    seconds = time.perf_counter() - begun
    return {
        "events": events,
        "seconds": round(seconds, 2),
        "peak_rss_mb": peak_rss_mb(),
        "exact": exact,
        "rerated": changed,
    }


def posting_bench(events: int) -> Figures:
    """The same in the ledger that the settings name, which must be empty."""
    import django

    django.setup()
    from kindling_billing.bench.posting import month_post

    # What was imported stays: it need not be looked through for garbage after every few windows.
    gc.freeze()
    begun = time.perf_counter()
    done = month_post(events, say=progress_show)
    return {
        "posted_events": events,
        "posted_seconds": round(time.perf_counter() - begun, 2),
        "posted_per_s": round(events / done.seconds["post_s"]),
        "peak_rss_mb": peak_rss_mb(),
        "exact": done.exact,
        "posted_rerated": done.corrected,
        **done.seconds,
    }


def progress_show(part: str, share: float) -> None:
    """A bar on standard error that moves, on a terminal alone."""
    if sys.stderr.isatty():
        bar = ("#" * round(share * WIDTH)).ljust(WIDTH)
        sys.stderr.write(f"\r{part:<12} [{bar}] {share:4.0%}" + "\n" * (share >= 1))


def peak_rss_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    sys.exit(main())
