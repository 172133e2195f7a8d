"""`prove_restored`: brings a restored database to the present and proves its books, as one JSON line."""

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.schema import schema_migrate


class Command(BaseCommand):
    help = "Prove the books of a restored installation."
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        try:
            schema_migrate(settings.KINDLING_ENV)
            proof = platform_prove()
            if proof.findings:
                first = proof.findings[0]["finding"]
                raise KindlingError("books_unsound", f"The restored books do not add up: {first}", 409)
        except (KindlingError, EmbeddedError) as error:
            self.stdout.write(json.dumps({"error": {"code": error.code, "message": error.message}}))
            raise SystemExit(1) from None
        self.stdout.write(json.dumps({"checks": proof.checks}))
