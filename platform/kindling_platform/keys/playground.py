"""The short-lived keys of the console's playground.

A member's next one takes the row of one that is over, so that years of talking are a few rows.
"""

from datetime import timedelta

from django.conf import settings
from django.db import transaction

from kindling_platform.accounts.models import Organisation, User
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.keys import secret
from kindling_platform.keys.epochs import epoch_publish
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_create, pepper_id

NAME = "Playground"
# No gateway knows a key any more that is over for so long.
OVER_FOR = timedelta(minutes=5)


@transaction.atomic
def playground_key_make(
    *, org: Organisation, user: User, lifetime: timedelta, actor: Actor
) -> tuple[ApiKey, str]:
    """A key of a member for inference alone, and its text."""
    moment = now()
    over = ApiKey.objects.for_org(org).filter(
        kind=ApiKey.Kind.PLAYGROUND, created_by=user, revoked_at=None, expires_at__lt=moment - OVER_FOR
    )
    key: ApiKey | None = over.select_for_update(of=("self",), skip_locked=True).order_by("id").first()
    if key is None:
        return key_create(
            org=org,
            name=NAME,
            scopes=["inference"],
            actor=actor,
            expires_at=moment + lifetime,
            kind=ApiKey.Kind.PLAYGROUND,
        )
    text, pepper = secret.generate(), settings.KINDLING_ENV.key_pepper
    key.digest, key.pepper_id = secret.digest(text, pepper), pepper_id(pepper)
    key.prefix, key.last4 = text[: secret.PREFIX_CHARS], text[-4:]
    key.expires_at, key.epoch = moment + lifetime, key.epoch + 1
    key.save(update_fields=["digest", "pepper_id", "prefix", "last4", "expires_at", "epoch"])
    epoch_publish(key)
    data = {"name": NAME, "scopes": key.scopes, "kind": str(key.kind)}
    audit_record(actor=actor, action="key.created", target=key.id, organisation_id=org.id, data=data)
    return key, text
