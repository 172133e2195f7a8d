"""Keeps a token for the hub while its download waits: sealed (`common.org_seal`), and forgotten when that ends."""

from django.conf import settings

from kindling_platform.adapters.models import HubFetch
from kindling_platform.common.org_seal import OrgSeal

PURPOSE = b"kindling hub tokens"
MOST_BYTES = 1024


def token_close(token: str, *, org_id: str, adapter_id: str) -> bytes:
    """The token as it is stored; nothing for none."""
    return _seal().close(token.encode(), org_id=org_id, row=adapter_id.encode()) if token else b""


def token_open(sealed: bytes, *, org_id: str, adapter_id: str) -> str:
    """The token, or nothing. Errors: SealBrokenError, when the installation has another secret by now."""
    if not sealed:
        return ""
    return _seal().open(sealed, org_id=org_id, row=adapter_id.encode(), most_bytes=MOST_BYTES).decode()


def token_forget(adapter_id: str) -> None:
    """Nothing is fetched with it any more."""
    HubFetch.objects.filter(adapter_id=adapter_id).update(sealed_token=b"")


def _seal() -> OrgSeal:
    return OrgSeal(settings.SECRET_KEY, PURPOSE)
