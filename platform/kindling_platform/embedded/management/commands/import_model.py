"""`import_model`: a model folder into the operator's catalog; prints one JSON line."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from kindling_platform.common.errors import KindlingError
from kindling_platform.embedded.bootstrap import model_enter


class Command(BaseCommand):
    help = "Enter a model folder into the operator's catalog."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument("name")

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            model = model_enter(folder=options["folder"], name=options["name"])
        except KindlingError as error:
            self.stdout.write(json.dumps({"error": {"code": error.code, "message": error.message}}))
            return
        self.stdout.write(json.dumps({"ref": model.ref, "revision": model.revision}))
