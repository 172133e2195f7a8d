"""`rebuild_usage`: makes the roll-ups of some days anew when the proof of the books has found one that is off."""

from argparse import ArgumentParser
from datetime import date, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kindling_platform.usage.rebuilding import days_rebuild


class Command(BaseCommand):
    help = "Make the roll-ups of days (UTC, both included) anew from their requests."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("first", type=date.fromisoformat, help="As 2026-01-31.")
        parser.add_argument("last", type=date.fromisoformat, nargs="?", help="The same day by default.")

    def handle(self, *_args: Any, **options: Any) -> None:
        """A transaction for each day: when it is stopped, go on with the day behind the last one it printed."""
        day, last = options["first"], options["last"] or options["first"]
        if last < day:
            raise CommandError("The last day lies before the first.")
        while day <= last:
            self.stdout.write(f"{day}  {days_rebuild(first=day, last=day):,} rows")
            day += timedelta(days=1)
