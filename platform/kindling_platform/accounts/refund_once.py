"""Refunds that a program gives: the same request again, with its idempotency key, finds what became of the first."""

from kindling_billing.refunding import Asked
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.once import key_reused, once_id
from kindling_platform.accounts.treasury import refund_give
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError

# The outbox keeps a payment's id and this in 80 characters.
DIGEST_CHARS = 44


def refund_give_once(
    *,
    org: Organisation,
    payment_id: str,
    amount_cents: int,
    reason: str,
    idempotency_key: str,
    actor: Actor,
) -> Asked:
    """Give money back to the card that paid, once for each key; under way for as long as the provider is away.

    Raises:
        KindlingError: `idempotency_key_invalid`, `idempotency_key_reused` for another refund under the same key,
            `refund_refused` with the provider's reason, and what `refund_give` raises.
    """
    reference = once_id(idempotency_key, chars=DIGEST_CHARS, what="a refund is given once for it.")
    try:
        asked = refund_give(
            org=org, payment_id=payment_id, amount_cents=amount_cents, reference=reference, reason=reason, actor=actor
        )  # fmt: skip
    except KindlingError as error:
        raise key_reused("refund") if error.code == "refund_differs" else error from error
    if asked.call.state == "refused":
        raise KindlingError("refund_refused", f"The payment provider refused: {asked.call.trouble}", 409)
    return asked
