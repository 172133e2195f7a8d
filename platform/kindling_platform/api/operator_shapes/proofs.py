"""What proofs of the books look like."""

from typing import Any

from rest_framework import serializers as s

from kindling_billing.models import Proof
from kindling_platform.api.rows import plain_row


class ProofFindingShape(s.Serializer[object]):
    check = s.CharField()
    finding = s.CharField(help_text="A sentence; money in it is pico-dollars.")


class ProofShape(s.Serializer[object]):
    id = s.IntegerField()
    run_at = s.DateTimeField()
    is_sound = s.BooleanField(help_text="No check found anything.")
    checks = s.DictField(child=s.IntegerField(), help_text="How much each check found.")
    findings = ProofFindingShape(many=True)


class ProofAskedShape(s.Serializer[object]):
    asked = s.BooleanField(help_text="The workers prove the books now; look at the newest proof in a moment.")


def proof_row(proof: Proof) -> dict[str, Any]:
    return {**plain_row(proof, "id", "run_at", "checks", "findings"), "is_sound": not proof.findings}
