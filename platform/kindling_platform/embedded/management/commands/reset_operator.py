"""`reset_operator`: a new password for the operator, printed as one JSON line."""

import json
from typing import Any

from django.core.management.base import BaseCommand

from kindling_platform.accounts.services import operator_password_reset
from kindling_platform.embedded.bootstrap import OPERATOR_EMAIL


class Command(BaseCommand):
    help = "Give the operator a new password."
    requires_system_checks: list[str] = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        user, password = operator_password_reset(email=OPERATOR_EMAIL)
        self.stdout.write(json.dumps({"operator_email": user.email, "operator_password": password}))
