"""Who calls: a bearer key, checked by its checksum and then by its digest in a cache of one second."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

from kindling_billing.admission import Payer
from kindling_billing.limits import Limits, Scope
from kindling_platform.gateway.caches import LoadFailedError, TtlCache
from kindling_platform.gateway.client_tokens import ClientToken, TokenMint, is_token
from kindling_platform.gateway.database import KEY_BY_DIGEST, Database
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.limits.scopes import NO_LIMITS, scopes_of
from kindling_platform.keys import secret

SCOPE_INFERENCE = "inference"
CACHE_SALT_PURPOSE = b"kindling prefix cache"
CHALLENGE = {"www-authenticate": "Bearer"}
MARK_BYTES = 16
MOST_MARKED = 20_000
# Who calls need not be who pays: a key's user hears what kind of reason it is and what ends it, no more.
SUSPENSIONS = {
    "unpaid": (
        "account_unpaid",
        "A payment of your organisation is overdue, so its requests are stopped. Somebody who looks after its "
        "billing sees in the console what is open and can pay it there; requests go on within a minute.",
    ),
    "operator": (
        "account_suspended",
        "The operator of this platform has suspended your organisation, so its requests are stopped. Its owners "
        "can ask the operator why and what ends it; keys, adapters and credit are kept.",
    ),
    "deleted": (
        "organisation_deleted",
        "An owner of your organisation has deleted it, so its keys are not good for anything any more. Use a key of "
        "another organisation.",
    ),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """A known key and its organisation; `salt_hex` keeps prompts of organisations apart in the engine.

    `suspended_for` names why the organisation's requests are stopped, "" while they are not. `batch` marks the calls of
    a batch: they pay its price and come behind all others. Without `rated` no rates bind the caller, but money does.
    """

    digest: bytes
    key_id: str
    org_id: str
    org_slug: str
    salt_hex: str
    scopes: frozenset[str]
    expires_at_s: float | None
    revoked: bool
    suspended_for: str
    epoch: int = 0
    models: frozenset[str] | None = None
    limit_scopes: tuple[Scope, ...] = ()
    token: ClientToken | None = None
    batch: bool = False
    rated: bool = True
    payer: Payer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Made once: a caller is kept for a second, and each of its requests asks several times who pays.
        object.__setattr__(self, "payer", Payer(self.org_id, self.key_id, self.epoch, self.limit_scopes))

    def may_call(self, ref: str) -> bool:
        """Whether the key's list of models, if it has one, names this one."""
        return self.models is None or ref in self.models

    def check(self) -> None:
        """Raise what keeps this key from calling a model."""
        if self.revoked:
            raise GatewayError(
                401, "key_revoked", "This API key was revoked. Use another one.", headers=CHALLENGE
            )
        if self.expires_at_s is not None and self.expires_at_s <= time.time():
            raise GatewayError(
                401, "key_expired", "This API key has expired. Make a new one.", headers=CHALLENGE
            )
        if SCOPE_INFERENCE not in self.scopes:
            message = "This API key lacks the scope 'inference'. Use a key that has it."
            raise GatewayError(403, "scope_missing", message)
        if self.suspended_for:
            raise GatewayError(412, *SUSPENSIONS[self.suspended_for])


class Keys:
    """Callers by key or client token; a revoked key is refused at most a second later, and its tokens with it."""

    def __init__(self, database: Database, pepper: str, *, defaults: Limits = NO_LIMITS) -> None:
        self._database = database
        self._pepper = pepper
        self._defaults = defaults
        self._mint = TokenMint(pepper)
        self._callers: TtlCache[bytes, Caller | None] = TtlCache(self._load, missing=1_000)
        # Digests by a short mark of the whole header: the real digest is made by a library so large that, on a machine
        # with other work, it costs ten times as much. No key is kept.
        self._digests: dict[bytes, bytes] = {}
        self._mark_key = secrets.token_bytes(MARK_BYTES)

    async def authenticate(
        self, authorization: bytes, org_slug: str | None, *, origin: bytes = b""
    ) -> Caller:
        """The caller of a request; a key of another organisation than the path's gets 404.

        `origin` is the page that a browser calls from; a client token may be bound to some.
        """
        caller = self._known(authorization)
        if caller is None:
            key = bearer_key(authorization)
            if is_token(key):
                return await self._authenticate_token(self._mint.read(key), org_slug, origin)
            caller = await self._find(secret.digest(key, self._pepper))
        if caller is None:
            raise invalid_key()
        if org_slug is not None and org_slug != caller.org_slug:
            raise GatewayError(404, "organisation_not_found", "There is no such organisation for this key.")
        caller.check()
        return caller

    def token_of(self, authorization: bytes) -> ClientToken | None:
        """The client token of a header, when it is one of ours, whatever its state."""
        key = authorization.decode("latin-1").partition(" ")[2].strip()
        return self._mint.find(key) if is_token(key) else None

    def mint(self, token: ClientToken) -> str:
        """The text of a client token."""
        return self._mint.write(token)

    async def renew(self, caller: Caller, epoch: int) -> Caller:
        """The caller as of `epoch` or later, checked again.

        Raises:
            GatewayError: what keeps the key from being used by now; 503 when nobody can tell.
        """
        for _ in range(2):  # the first load may have begun before the change
            try:
                known = (await self._callers.entry(caller.digest, max_age_s=0)).value
            except LoadFailedError as error:
                raise books_unavailable() from error
            if known is None:
                raise invalid_key()
            if known.epoch >= epoch:
                known.check()
                if not caller.rated:
                    return in_batch(known)
                known = bound_to(known, caller.token) if caller.token else known
                return flexible(known) if caller.batch else known
        raise books_unavailable()

    async def batch_caller(self, digest: bytes) -> Caller:
        """Who asks in a batch that the key with this digest has made. Errors: what keeps the key from being used."""
        caller = await self._find(digest)
        if caller is None:
            raise invalid_key()
        caller.check()
        return in_batch(caller)

    async def recheck(self, caller: Caller) -> bool:
        """Whether the key is still good; a running stream asks before it spends more."""
        try:
            known = await self._find(caller.digest)
            if known is not None:
                known.check()
        except GatewayError:
            return False
        return known is not None

    def _known(self, authorization: bytes) -> Caller | None:
        """The caller of a key that was looked up a moment ago: where its digest is known, its form is right."""
        mark = hashlib.blake2b(authorization, digest_size=MARK_BYTES, key=self._mark_key).digest()
        digest = self._digests.get(mark)
        if digest is None:
            scheme, _, key = authorization.partition(b" ")
            if scheme.lower() != b"bearer":
                return None
            digest = secret.digest(key.decode("latin-1").strip(), self._pepper)
        entry = self._callers.fresh(digest)
        if entry is None or entry.value is None:
            return None
        if len(self._digests) >= MOST_MARKED:
            self._digests.clear()
        self._digests[mark] = digest
        return entry.value

    async def _authenticate_token(self, token: ClientToken, org_slug: str | None, origin: bytes) -> Caller:
        token.check(origin)
        caller = await self._find(token.key_digest)
        if caller is None:
            raise invalid_key()
        if org_slug is not None and org_slug != caller.org_slug:
            raise GatewayError(404, "organisation_not_found", "There is no such organisation for this token.")
        caller.check()
        return bound_to(caller, token)

    async def _find(self, digest: bytes) -> Caller | None:
        entry = self._callers.fresh(digest)
        if entry:
            return entry.value
        try:
            return await self._callers.get(digest)
        except LoadFailedError as error:
            raise books_unavailable() from error

    async def _load(self, digest: bytes) -> Caller | None:
        row = await self._database.row(KEY_BY_DIGEST, [digest])
        return caller_from_row(digest, row, defaults=self._defaults) if row else None


def bearer_key(authorization: bytes) -> str:
    """The key of an Authorization header, when it is one of ours by form and checksum."""
    scheme, _, key = authorization.decode("latin-1").partition(" ")
    key = key.strip()
    if not authorization:
        message = "No API key was sent. Put it into the header 'Authorization: Bearer <key>'."
        raise GatewayError(401, "invalid_api_key", message, headers=CHALLENGE)
    if scheme.lower() != "bearer" or not (secret.is_wellformed(key) or is_token(key)):
        raise invalid_key()
    return key


def invalid_key() -> GatewayError:
    """401 for a key that nobody has."""
    message = "This API key is not valid. Check that it was copied whole."
    return GatewayError(401, "invalid_api_key", message, headers=CHALLENGE)


def bound_to(caller: Caller, token: ClientToken) -> Caller:
    """A key's caller with the bounds of a client token that the key has minted."""
    scopes = caller.limit_scopes
    if token.budget_nano is not None:
        scopes += (Scope("token", token.id, Limits(budget_total_nano=token.budget_nano)),)
    models = caller.models if token.models is None else token.models & (caller.models or token.models)
    return replace(caller, models=models, limit_scopes=scopes, token=token)


def in_batch(caller: Caller) -> Caller:
    """The same caller at work in a batch: of its limits those of money remain."""
    budgets = (replace(scope, limits=scope.limits.money_only()) for scope in caller.limit_scopes)
    scopes = tuple(one for one in budgets if one.limits.has_budget)
    return replace(caller, batch=True, rated=False, limit_scopes=scopes)


def flexible(caller: Caller) -> Caller:
    """The same caller, who waits for the price of batch work."""
    return replace(caller, batch=True)


def caller_from_row(digest: bytes, row: dict[str, Any], *, defaults: Limits = NO_LIMITS) -> Caller:
    """A caller from a row of gateway_key."""
    expires_at = row["expires_at"]
    salt = hmac.new(str(row["org_salt"]).encode(), CACHE_SALT_PURPOSE, hashlib.sha256)
    return Caller(
        digest=digest,
        key_id=row["key_id"],
        org_id=row["org_id"],
        org_slug=row["org_slug"],
        salt_hex=salt.hexdigest(),
        scopes=frozenset(row["scopes"]),
        expires_at_s=expires_at.timestamp() if expires_at else None,
        revoked=row["revoked"],
        suspended_for=row["suspended_for"],
        epoch=row["epoch"],
        models=frozenset(row["models"]) if row["models"] is not None else None,
        limit_scopes=scopes_of(
            row["limits"] or (),
            org_id=row["org_id"],
            member_id=row["member_id"] or "",
            key_id=row["limits_key_id"],
            defaults=defaults,
        ),
    )
