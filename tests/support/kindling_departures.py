"""An organisation with one of everything that is cleared away when it is deleted."""

import uuid
from datetime import timedelta

from django.core.cache import cache
from django.test import Client

from kindling_billing.models import SavedCard, StripeCustomer
from kindling_kept_requests import keep_request
from kindling_people import Customer
from kindling_platform.accounts.invitations import invitation_create
from kindling_platform.accounts.models import User
from kindling_platform.adapters.aliases import alias_set
from kindling_platform.adapters.models import Adapter, ModelAlias
from kindling_platform.adapters.storage import blob_folder
from kindling_platform.batches.models import StoredFile
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.services import deployment_ensure
from kindling_platform.keys.limits import limits_set
from kindling_platform.keys.models import ApiKey, LimitSet
from kindling_platform.keys.services import key_create
from kindling_platform.requestlog.models import LoggedRequest
from kindling_platform.responses.models import SharedConversation, StoredResponse
from kindling_platform.usage.models import Feedback, IdempotentReply
from kindling_shared import shared

PASSWORD = "correct horse battery staple 7"


def furnish(owner: Customer, model: Model, *, content_hash: str = "") -> str:
    """Give an organisation one of everything; the text of its key. `model` has a price for GPU time."""
    org, moment = owner.org, now()
    later = moment + timedelta(days=7)
    _, text = key_create(org=org, name="laptop", scopes=["inference", "read", "manage"], actor=owner.actor)
    Adapter.objects.create(
        organisation=org, base=model, name="tuned", state="ready", content_hash=content_hash or uuid.uuid4().hex * 2
    )  # fmt: skip
    alias_set(org=org, alias="gpt-4", target="tuned", actor=owner.actor)
    deployment_ensure(org=org, model=model, name="mine", actor=owner.actor)
    keep_request(owner, str(uuid.uuid4()), prompt=b'{"prompt": "secret"}')
    StoredResponse.objects.create(
        id=f"resp_{uuid.uuid4().hex}", organisation_id=org.id, key_id="key_1", body=b"{}", input=b"[]",
        created_at=moment, expires_at=later,
    )  # fmt: skip
    IdempotentReply.objects.create(
        digest=uuid.uuid4().bytes * 2, organisation_id=org.id, fingerprint=b"0" * 32, request_id=uuid.uuid4(),
        status=200, answer=b"sealed", leased_until=moment, expires_at=later,
    )  # fmt: skip
    Feedback.objects.create(
        organisation_id=org.id, request_id=uuid.uuid4(), key_id="key_1", score=1.0, created_at=moment, updated_at=moment
    )  # fmt: skip
    StoredFile.objects.create(
        id=f"file-{uuid.uuid4().hex}", organisation_id=org.id, key_id="key_1", filename="in.jsonl", purpose="batch",
        size_bytes=1, is_complete=True, created_at=moment, expires_at=later,
    )  # fmt: skip
    shared(owner)
    limits_set(org=org, values={"budget_month_picousd": 7 * 10**12}, actor=owner.actor)
    invitation_create(org=org, email="new@example.test", role="viewer", actor=owner.actor)
    return text


def card_put(owner: Customer) -> str:
    """A saved card; its id."""
    StripeCustomer.objects.create(owner_id=owner.org.id, customer_id=f"cus_{owner.org.id}"[:64])
    card = SavedCard.objects.create(
        id=f"pm_{uuid.uuid4().hex}", owner_id=owner.org.id, brand="visa", last4="4242", exp_month=1, exp_year=2040,
        is_default=True,
    )  # fmt: skip
    return str(card.id)


def left_of(owner: Customer) -> dict[str, int]:
    """How much there is of each kind that is cleared away."""
    kinds: dict[str, OrgQuerySet] = {
        "keys": ApiKey.objects.filter(revoked_at=None),
        "adapters": Adapter.objects.exclude(state="deleted"),
        "aliases": ModelAlias.objects.all(),
        "deployments": Deployment.objects.exclude(desired_state="deleted"),
        "prompts": LoggedRequest.objects.all(),
        "responses": StoredResponse.objects.all(),
        "shared": SharedConversation.objects.all(),
        "answers": IdempotentReply.objects.all(),
        "opinions": Feedback.objects.all(),
        "files": StoredFile.objects.all(),
        "limits": LimitSet.objects.all(),
    }
    return {name: rows.for_org(owner.org).count() for name, rows in kinds.items()}


def blob_put(content_hash: str) -> None:
    """The files of an adapter, as a validation leaves them."""
    folder = blob_folder(content_hash)
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")


def confirmed(user: User) -> Client:
    """A browser of somebody who has just confirmed with their password that it is them."""
    # Whose confirmations are counted is the same person in all tests of a module.
    cache.clear()
    user.set_password(PASSWORD)
    user.save()
    client = Client()
    client.force_login(user)
    assert client.post("/accounts/reauthenticate/", {"password": PASSWORD}).status_code == 302
    return client
