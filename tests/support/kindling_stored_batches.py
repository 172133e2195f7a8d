"""Batches as gateways leave them in the tables, for tests of those who read them."""

import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings

from kindling_platform.batches.models import Batch, FilePart, StoredFile
from kindling_platform.batches.seal import Seal
from kindling_platform.common.clock import now
from kindling_platform.common.tenancy import HasId


def stored_file(org: HasId, *texts: bytes, purpose: str = "batch", **fields: Any) -> StoredFile:
    """A file of these pieces."""
    values: dict[str, Any] = {
        "id": f"file-{secrets.token_hex(16)}", "organisation_id": org.id, "key_id": "key_1", "filename": "in.jsonl",
        "purpose": purpose, "size_bytes": sum(map(len, texts)), "is_complete": True, "created_at": now(),
        "expires_at": now() + timedelta(days=30),
    }  # fmt: skip
    file = StoredFile.objects.create(**values | fields)
    seal = Seal(settings.KINDLING_ENV.secret_key)
    for number, text in enumerate(texts):
        sealed = seal.close(text, org_id=org.id, owner=file.id, number=number)
        FilePart.objects.create(file=file, number=number, sealed=sealed)
    return file


def stored_batch(org: HasId, **fields: Any) -> Batch:
    """A batch at work, of which two of three requests are done."""
    values: dict[str, Any] = {
        "id": f"batch_{secrets.token_hex(16)}", "organisation_id": org.id, "key_id": "key_1", "key_digest": b"d",
        "endpoint": "/v1/chat/completions", "input_file_id": "file-none", "output_file_id": "", "error_file_id": "",
        "model_name": "kindling/spark", "metadata": {"night": "first"}, "output_s": 3600, "status": "in_progress",
        "waits_for": "", "total": 3, "completed": 1, "failed": 1, "prompt_tokens": 21, "cached_tokens": 3,
        "completion_tokens": 14, "reasoning_tokens": 0, "stored_bytes": 0, "due_at": now(), "created_at": now(),
        "expires_at": now() + timedelta(days=1),
    }  # fmt: skip
    return Batch.objects.create(**values | fields)
