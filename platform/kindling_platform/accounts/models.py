"""People, organisations, and who may act for which."""

import secrets

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models

from kindling_platform.accounts.roles import ROLE_CHOICES
from kindling_platform.common.models import Created, id_field

# Addresses of users who have deleted their account: no letter ever goes there (RFC 2606).
DELETED_DOMAIN = "deleted.invalid"


class UserManager(BaseUserManager["User"]):
    """Makes users whose e-mail address is their name."""

    def create_user(self, email: str, password: str | None = None, **fields: object) -> "User":
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(Created, AbstractBaseUser, PermissionsMixin):
    """A person who signs in with an e-mail address."""

    id = id_field("usr")
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    signup_ip = models.GenericIPAddressField(null=True, blank=True)
    # Whether single keys do things in the console, for whom they are no nuisance.
    shortcuts = models.BooleanField(default=True, db_default=True)

    objects = UserManager()

    USERNAME_FIELD = "email"

    def __str__(self) -> str:
        return self.email


def new_salt() -> str:
    """Thirty-two random bytes as hex."""
    return secrets.token_hex(32)


class Organisation(Created):
    """A tenant: owns keys, adapters, usage and a wallet. Exactly one is the operator's."""

    id = id_field("org")
    slug = models.SlugField(max_length=48, unique=True)
    name = models.CharField(max_length=120)
    is_operator = models.BooleanField(default=False)
    suspended_at = models.DateTimeField(null=True, blank=True)
    # Whether members without a second factor are shut out until they have one; keys are not.
    mfa_required = models.BooleanField(default=False, db_default=False)
    salt = models.CharField(max_length=64, default=new_salt, editable=False)
    signup_credit_note = models.CharField(max_length=200, blank=True)
    # Since when it is being deleted, and when nothing was left to delete. The row stays: the books name it, and nobody
    # else gets its slug.
    deleting_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["is_operator"], condition=models.Q(is_operator=True), name="one_operator_organisation"
            )
        ]
        indexes = [
            models.Index(
                fields=["deleting_at"],
                condition=models.Q(deleting_at__isnull=False, deleted_at=None),
                name="organisations_going",
            )
        ]

    def __str__(self) -> str:
        return self.slug


class Membership(Created):
    """A user's role in an organisation."""

    id = id_field("mem")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=ROLE_CHOICES)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "organisation"], name="one_membership")]

    def __str__(self) -> str:
        return f"{self.user} is {self.role} of {self.organisation}"


class Seeing(Created):
    """A time for which one of the operator's people sees the console as a member does, and changes nothing.

    `proof` is a digest of what both passwords were then: it ends with a change of either.
    """

    id = id_field("see")
    operator = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="+")
    reason = models.CharField(max_length=300)
    proof = models.CharField(max_length=64)
    ends_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["ends_at"], condition=models.Q(ended_at=None), name="seeings_open"),
        ]

    def __str__(self) -> str:
        return f"{self.operator} as {self.user}"


class Invitation(Created):
    """A place in an organisation for whoever signs in with an address and has the link: once, and for a while."""

    id = id_field("ivt")
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=16, choices=ROLE_CHOICES)
    # Of the link only this is stored.
    digest = models.BinaryField(max_length=32, unique=True)
    invited_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    expires_at = models.DateTimeField()
    # Accepted, withdrawn, or replaced by a newer one.
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organisation", "email"],
                condition=models.Q(ended_at=None),
                name="one_open_invitation",
            )
        ]
        indexes = [models.Index(fields=["organisation", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.email} to {self.organisation}"
