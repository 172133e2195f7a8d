"""Makes, rotates and revokes API keys."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from kindling_platform.accounts.models import Organisation, User
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.keys import secret
from kindling_platform.keys.epochs import epoch_publish
from kindling_platform.keys.models import OPERATOR_SCOPE, SCOPES, ApiKey
from kindling_platform.keys.selectors import key_successor_find

MAX_KEYS = 500
MAX_NAME_CHARS = 80
MAX_MODELS = 100
MAX_OVERLAP = timedelta(days=30)
MODEL_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9][A-Za-z0-9._:-]*")


def pepper_id(pepper: str) -> str:
    """Names the pepper that a digest was made with, without telling it."""
    return hashlib.sha256(b"kindling pepper " + pepper.encode()).hexdigest()[:8]


@transaction.atomic
def key_create(
    *,
    org: Organisation,
    name: str,
    scopes: Sequence[str],
    actor: Actor,
    expires_at: datetime | None = None,
    kind: str = ApiKey.Kind.USER,
    secret_text: str | None = None,
    models: Sequence[str] | None = None,
    family: ApiKey | None = None,
    may_operate: bool = False,
) -> tuple[ApiKey, str]:
    """Make a key; its text is returned here and never again. `secret_text` stores a given key instead.

    `models` binds it to these; `family` is the key whose limits it takes over; `may_operate` says that whoever makes
    it runs this installation, and so may give it the scope `operator`.

    Raises:
        KindlingError: `name_invalid`, `scopes_invalid`, `scope_forbidden`, `expiry_invalid`, `key_malformed`,
            `key_exists`, `key_limit_reached`, `models_invalid`.
    """
    name = name.strip()
    known = (*SCOPES, OPERATOR_SCOPE) if org.is_operator else SCOPES
    wanted = [scope for scope in known if scope in set(scopes)]
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise KindlingError("name_invalid", "Give the key a name of 1 to 80 characters.", param="name")
    if not wanted or set(scopes) - set(known):
        text = f"Choose one or more scopes among {', '.join(known)}."
        raise KindlingError("scopes_invalid", text, param="scopes")
    _check_operator_scope(wanted, may_operate=may_operate)
    if expires_at is not None and expires_at <= now():
        raise KindlingError("expiry_invalid", "The expiry must lie in the future.", param="expires_at")
    if secret_text is not None and not secret.is_wellformed(secret_text):
        raise KindlingError("key_malformed", "This text is not a key.", param="secret_text")
    _check_models(models)
    active = ApiKey.objects.for_org(org).filter(kind=ApiKey.Kind.USER, revoked_at=None)
    if kind == ApiKey.Kind.USER and active.count() >= MAX_KEYS:
        text = f"An organisation may have {MAX_KEYS} keys. Revoke one that is not used any more."
        raise KindlingError("key_limit_reached", text, 409)
    text = secret_text or secret.generate()
    pepper = settings.KINDLING_ENV.key_pepper
    digest = secret.digest(text, pepper)
    if ApiKey.objects.filter(digest=digest).exists():
        raise KindlingError("key_exists", "This key is stored already.", 409)
    key = ApiKey.objects.create(
        organisation=org,
        name=name,
        digest=digest,
        pepper_id=pepper_id(pepper),
        prefix=text[: secret.PREFIX_CHARS],
        last4=text[-4:],
        scopes=wanted,
        kind=kind,
        expires_at=expires_at,
        model_refs=None if models is None else sorted(set(models)),
        family=family,
        created_by=User.objects.filter(id=actor.user_id).first(),
    )
    data = {"name": name, "scopes": wanted, "kind": str(kind)}
    audit_record(actor=actor, action="key.created", target=key.id, organisation_id=org.id, data=data)
    return key, text


@transaction.atomic
def key_revoke(*, org: Organisation, key_id: str, actor: Actor) -> ApiKey:
    """Refuse a key from now on; the gateway follows within a second. Repeating it changes nothing.

    Raises:
        KindlingError: `not_found`.
    """
    key: ApiKey | None = ApiKey.objects.for_org(org).select_for_update(of=("self",)).filter(id=key_id).first()
    if key is None:
        raise not_found("key")
    if key.revoked_at is None:
        key.revoked_at = now()
        key.epoch += 1
        key.save(update_fields=["revoked_at", "epoch"])
        epoch_publish(key)
        audit_record(
            actor=actor, action="key.revoked", target=key.id, organisation_id=org.id, data={"name": key.name}
        )
    return key


@transaction.atomic
def key_rotate(
    *, org: Organisation, key_id: str, overlap: timedelta, actor: Actor, may_operate: bool = False
) -> tuple[ApiKey, str]:
    """Make a successor with the same scopes, limits and budget; the old key goes on for `overlap` and then expires.

    The successor is of whoever rotates, who has its text: it may do no more than they may, and leaves with them. A
    key has one: a second would end with the old key, and a request that was sent twice would make it.

    Raises:
        KindlingError: `not_found`, `key_revoked` for a key that is revoked or has expired, `key_rotated` for one that
            has a successor, `overlap_invalid`, and what `key_create` raises.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        text = f"The old key may go on for up to {MAX_OVERLAP.days} days."
        raise KindlingError("overlap_invalid", text, param="overlap_s")
    old: ApiKey | None = ApiKey.objects.for_org(org).select_for_update(of=("self",)).filter(id=key_id).first()
    if old is None:
        raise not_found("key")
    moment = now()
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= moment):
        raise KindlingError("key_revoked", "This key is over. Make a new one.", 409)
    if (successor := key_successor_find(key=old)) is not None:
        text = (
            f"“{old.name}” was rotated already: {successor} took its place, and its text was shown once. "
            "Rotate that one, or make a new key."
        )
        raise KindlingError("key_rotated", text, 409)
    made, text = key_create(
        org=org,
        name=old.name,
        scopes=old.scopes,
        actor=actor,
        expires_at=old.expires_at,
        models=old.model_refs,
        family=old.family or old,
        may_operate=may_operate,
    )
    until = moment + overlap
    old.expires_at = until if old.expires_at is None else min(old.expires_at, until)
    old.epoch += 1
    old.save(update_fields=["expires_at", "epoch"])
    epoch_publish(old)
    data = {"successor": made.id, "until": old.expires_at.isoformat()}
    audit_record(actor=actor, action="key.rotated", target=old.id, organisation_id=org.id, data=data)
    return made, text


def key_ensure(
    *, org: Organisation, name: str, scopes: Sequence[str], text: str, actor: Actor, renew: bool = False
) -> str:
    """Store a key whose text is given, unless it is stored already; gives the text of the key that there is now.

    With `renew`, one that is revoked or has expired gets a successor, whose text is another: no text serves twice.

    Raises:
        KindlingError: what `key_create` raises.
    """
    digest = secret.digest(text, settings.KINDLING_ENV.key_pepper)
    found: ApiKey | None = ApiKey.objects.for_org(org).filter(digest=digest).first()
    if found is not None:
        is_over = found.revoked_at is not None or (found.expires_at is not None and found.expires_at <= now())
        if not (renew and is_over):
            return text
        text = secret.generate()
    return key_create(
        org=org, name=name, scopes=scopes, actor=actor, kind=ApiKey.Kind.BOOTSTRAP, secret_text=text
    )[1]


def _check_operator_scope(scopes: Sequence[str], *, may_operate: bool) -> None:
    if OPERATOR_SCOPE in scopes and not may_operate:
        text = (
            "The scope operator is given by owners and admins of the operator's organisation, "
            "and by keys that have it themselves."
        )
        raise KindlingError("scope_forbidden", text, 403, param="scopes")


def _check_models(models: Sequence[str] | None) -> None:
    if models is None:
        return
    if not 1 <= len(models) <= MAX_MODELS or not all(MODEL_REF.fullmatch(ref) for ref in models):
        text = f"Name 1 to {MAX_MODELS} models as <organisation>/<name>, or none at all for every model."
        raise KindlingError("models_invalid", text, param="models")


def key_touch(*, used_at: Mapping[str, datetime]) -> None:
    """Note when keys were last used, by key id; an older time never replaces a newer one."""
    ordered = sorted(used_at.items())
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE keys_apikey AS key SET last_used_at = greatest(key.last_used_at, used.at)"
            " FROM unnest(%s::text[], %s::timestamptz[]) AS used(id, at) WHERE key.id = used.id",
            [[key_id for key_id, _ in ordered], [at for _, at in ordered]],
        )
