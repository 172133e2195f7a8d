"""`bootstrap`: makes what a start needs and prints it as one JSON line."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kindling_platform.common.errors import KindlingError
from kindling_platform.embedded.bootstrap import bootstrap_run
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.schema import schema_migrate


class Command(BaseCommand):
    help = "Operator, first model, price, deployment and key of this installation."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--migrate", action="store_true", help="bring the schema to the present first")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            if options["migrate"]:
                schema_migrate(settings.KINDLING_ENV)
            facts = asdict(bootstrap_run(settings.KINDLING_ENV))
        except (KindlingError, EmbeddedError) as error:
            self.stdout.write(json.dumps({"error": {"code": error.code, "message": error.message}}))
            raise SystemExit(1) from None
        self.stdout.write(json.dumps(facts))
