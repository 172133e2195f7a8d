"""Where the object store is, and who we are there; free of Django. Whoever needs no credentials never reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PREFIX = "KINDLING_OBJECT_STORE"
BLOBS_MAX = "KINDLING_BLOBS_MAX_GB"
GIGABYTE = 10**9
SECRETS = (f"{PREFIX}_ACCESS_KEY_ID", f"{PREFIX}_SECRET_ACCESS_KEY")
# The library reads these where ours are not given.
CLOUD_SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
REGION = "us-east-1"
LEAST_BUCKET, MOST_BUCKET = 3, 63


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A bucket, what all names in it begin with, and the server it is on; without an endpoint that is Amazon's."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str = REGION
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)


def store_address(text: str) -> str:
    """`s3://bucket/prefix`, as it came. Raises ValueError for every other text."""
    parts = urlsplit(text)
    bucket = parts.netloc
    letters = bucket.replace("-", "").replace(".", "")
    if parts.scheme != "s3" or parts.query or parts.fragment:
        raise ValueError("another kind of address")
    if not (LEAST_BUCKET <= len(bucket) <= MOST_BUCKET and letters.isascii() and letters.isalnum()):
        raise ValueError("no bucket could be called so")
    if any(part in ("", ".", "..") for part in parts.path.strip("/").split("/")) and parts.path.strip("/"):
        raise ValueError("no object could be called so")
    return text


def store_place(given: Mapping[str, str]) -> StorePlace | None:
    """The place that settings name, with its credentials; None without one. Raises ValueError for a wrong one."""

    def text(name: str) -> str | None:
        return given.get(f"{PREFIX}{name}", "").strip() or None

    address = text("")
    if address is None:
        return None
    parts = urlsplit(store_address(address))
    return StorePlace(
        bucket=parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=text("_ENDPOINT"),
        region=text("_REGION") or REGION,
        access_key_id=text("_ACCESS_KEY_ID"),
        secret_access_key=text("_SECRET_ACCESS_KEY"),
    )


def blobs_max_bytes(given: Mapping[str, str]) -> int:
    """How much of adapters may stay on a disk when they are in the store as well; 0 is no bound, as is no number."""
    text = given.get(BLOBS_MAX, "").strip()
    return int(text) * GIGABYTE if text.isascii() and text.isdigit() else 0
