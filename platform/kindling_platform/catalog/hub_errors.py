"""What the hub's client raises, as refusals with a stable code and something to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from kindling_platform.common.errors import KindlingError

_HTTP_LIBRARIES = {"httpx", "httpcore", "requests", "urllib3", "httpx2"}


@contextmanager
def hub_errors_told(repo_id: str) -> Iterator[None]:
    """Run calls of huggingface_hub inside.

    Raises:
        KindlingError: `hub_not_found`, `hub_forbidden`, `hub_offline`, `disk_full`.
    """
    from huggingface_hub import errors

    shown = repo_id[:100]
    try:
        yield
    except errors.GatedRepoError as error:
        raise hub_forbidden(
            f"{shown} is gated: accept its terms on the hub, then set HF_TOKEN to a token of that account."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise hub_not_found(f"The hub has {shown}, but not in this revision.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        # The hub gives the same answer for a private one, so that strangers cannot tell.
        raise hub_not_found(
            f"The hub knows no model {shown!r}. If it is private, set HF_TOKEN to a token that may read it."
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise hub_offline(shown, "HF_HUB_OFFLINE is set") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in {401, 403}:
            raise hub_forbidden(
                f"The hub does not let us read {shown} (status {status}); check that HF_TOKEN is valid and may."
            ) from error
        if status == 404:
            raise hub_not_found(f"The hub lacks a file of {shown} that it lists.") from error
        raise hub_offline(shown, f"the hub answered with status {status}") from error
    except (errors.LocalEntryNotFoundError, errors.FileMetadataError) as error:
        raise hub_offline(shown, type(error).__name__) from error
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise KindlingError("disk_full", f"The disk filled up while {shown} was fetched.", 507) from error
        raise hub_offline(shown, type(error).__name__) from error
    except Exception as error:
        # The client lets its HTTP library's errors through, and they share no base that we could name.
        if type(error).__module__.split(".")[0] in _HTTP_LIBRARIES:
            raise hub_offline(shown, type(error).__name__) from error
        raise


def hub_not_found(message: str) -> KindlingError:
    return KindlingError("hub_not_found", message, 404)


def hub_forbidden(message: str) -> KindlingError:
    return KindlingError("hub_forbidden", message, 403)


def hub_offline(repo_id: str, reason: str) -> KindlingError:
    text = (
        f"{repo_id} could not be fetched: {reason}. Check the network, set HF_ENDPOINT to a mirror, or import a "
        "folder instead; what has arrived is kept."
    )
    return KindlingError("hub_offline", text, 503, details=reason)
