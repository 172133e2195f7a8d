"""Makes users and organisations."""

import secrets
from typing import TypedDict

from allauth.account.models import EmailAddress
from django.db import IntegrityError, transaction

from kindling_platform.accounts.actor import user_actor
from kindling_platform.accounts.credit import signup_credit_grant
from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import SYSTEM, Actor
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.slugs import OPERATOR_SLUG, slug_from

SLUG_ATTEMPTS = 8
MAX_NAME_CHARS = 120
OPERATOR_PASSWORD_BYTES = 15


def user_register(*, email: str, password: str, name: str = "", ip: str | None = None) -> User:
    """Make a user with an organisation of their own and the credit that new customers get.

    Raises:
        KindlingError: `email_taken`.
    """
    user = User(email=User.objects.normalize_email(email).lower(), name=name)
    user.set_password(password)
    return user_settle(user=user, ip=ip)


@transaction.atomic
def user_settle(*, user: User, ip: str | None = None, is_confirmed: bool = False) -> User:
    """Save a new user and give them an organisation; the sign-up form and `user_register` both end here.

    `is_confirmed` says that the address is known to be theirs.

    Raises:
        KindlingError: `email_taken`.
    """
    if User.objects.filter(email__iexact=user.email).exists():
        raise KindlingError("email_taken", "Somebody signed up with this e-mail address before.", 409)
    user.email = user.email.lower()
    user.signup_ip = ip
    user.save()
    if is_confirmed:
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    actor = user_actor(user, ip=ip)
    org = organisation_create(name=user.name or user.email.split("@")[0], owner=user, actor=actor)
    audit_record(actor=actor, action="user.registered", target=user.id, organisation_id=org.id)
    signup_credit_grant(org=org, user=user)
    return user


@transaction.atomic
def organisation_create(*, name: str, owner: User, actor: Actor) -> Organisation:
    """Make an organisation with a free slug and its owner as first member."""
    for attempt in range(SLUG_ATTEMPTS):
        slug = slug_from(name, distinct=attempt > 0)
        if Organisation.objects.filter(slug=slug).exists():
            continue
        try:
            with transaction.atomic():
                org = Organisation.objects.create(slug=slug, name=name[:120])
        except IntegrityError:
            continue  # somebody took the slug in this very moment
        Membership.objects.create(user=owner, organisation=org, role="owner")
        audit_record(
            actor=actor,
            action="organisation.created",
            target=org.id,
            organisation_id=org.id,
            data={"slug": slug},
        )
        return org
    raise KindlingError("slug_taken", "No free name was found for the organisation. Try again.", 503)


@transaction.atomic
def user_rename(*, user: User, name: str, actor: Actor) -> User:
    """Change the name that others see.

    Raises:
        KindlingError: `name_invalid`.
    """
    name = name.strip()
    if len(name) > MAX_NAME_CHARS:
        raise KindlingError("name_invalid", f"A name has at most {MAX_NAME_CHARS} characters.", param="name")
    user.name = name
    user.save(update_fields=["name"])
    audit_record(actor=actor, action="user.renamed", target=user.id)
    return user


@transaction.atomic
def user_shortcuts_set(*, user: User, enabled: bool, actor: Actor) -> User:
    """Whether single keys do something in the user's console."""
    before = User.objects.select_for_update().values_list("shortcuts", flat=True).get(id=user.id)
    user.shortcuts = enabled
    if before != enabled:
        user.save(update_fields=["shortcuts"])
        audit_record(
            actor=actor, action="user.shortcuts_set", target=user.id,
            before={"shortcuts": before}, after={"shortcuts": enabled},
        )  # fmt: skip
    return user


@transaction.atomic
def organisation_rename(*, org: Organisation, name: str, actor: Actor) -> Organisation:
    """Change the name that people see; addresses and names of models keep the slug.

    Raises:
        KindlingError: `name_invalid`.
    """
    plain = " ".join(name.split())
    if not plain or len(plain) > MAX_NAME_CHARS or not plain.isprintable():
        text = f"A name has 1 to {MAX_NAME_CHARS} characters that can be printed."
        raise KindlingError("name_invalid", text, param="name")
    row = Organisation.objects.select_for_update().get(id=org.id)
    if row.name == plain:
        return row
    before, row.name = row.name, plain
    row.save(update_fields=["name"])
    audit_record(
        actor=actor, action="organisation.renamed", target=row.id, organisation_id=row.id,
        before={"name": before}, after={"name": plain},
    )  # fmt: skip
    return row


class _Operator(TypedDict):
    is_staff: bool
    is_superuser: bool


@transaction.atomic
def operator_ensure(*, email: str) -> tuple[User, str | None]:
    """The operator and their organisation; the password is given once, when the user is made here.

    Raises:
        KindlingError: `operator_address_taken`.
    """
    org, org_made = Organisation.objects.get_or_create(
        slug=OPERATOR_SLUG, defaults={"name": "Kindling", "is_operator": True}
    )
    powers: _Operator = {"is_staff": True, "is_superuser": True}
    user = _operator_find(email)
    password, is_new = None, user is None or not user.is_superuser
    if user is None:
        if User.objects.filter(email__iexact=email).exists():
            raise KindlingError(
                "operator_address_taken", f"{email} belongs to somebody who is no operator.", 409
            )
        password = secrets.token_urlsafe(OPERATOR_PASSWORD_BYTES)
        user = User.objects.create_user(email, password, **powers)
    elif not user.is_superuser:
        User.objects.filter(id=user.id).update(**powers)
    if not EmailAddress.objects.filter(user=user).exists():
        EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    _, joined = Membership.objects.get_or_create(user=user, organisation=org, defaults={"role": "owner"})
    if org_made or joined or is_new:
        audit_record(actor=SYSTEM, action="operator.ensured", target=user.id, organisation_id=org.id)
    return user, password


@transaction.atomic
def operator_password_reset(*, email: str) -> tuple[User, str]:
    """A new password for the operator.

    Raises:
        KindlingError: `operator_missing`.
    """
    user = _operator_find(email)
    if user is None:
        raise KindlingError("operator_missing", f"There is no operator {email}.", 404)
    password = secrets.token_urlsafe(OPERATOR_PASSWORD_BYTES)
    user.set_password(password)
    user.save(update_fields=["password"])
    audit_record(actor=SYSTEM, action="operator.password_reset", target=user.id)
    return user, password


def _operator_find(email: str) -> User | None:
    """The operator, who may sign in with another address by now; never a stranger who has theirs since.

    Where the first one runs the installation no more, it is the oldest of those who do.
    """
    owners = User.objects.filter(memberships__organisation__is_operator=True, memberships__role="owner")
    powerful = owners.filter(is_superuser=True)
    return (
        powerful.filter(email__iexact=email).first()
        or powerful.order_by("created_at").first()
        or User.objects.filter(is_superuser=True, email__iexact=email).first()
        or owners.order_by("created_at").first()
    )
