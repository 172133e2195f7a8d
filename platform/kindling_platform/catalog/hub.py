"""Fetches a model's files from the Hugging Face Hub; never code, never pickles."""

from pathlib import Path

from kindling_platform.common.errors import KindlingError

ALLOWED = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "*.model", "README.md"]


def snapshot_fetch(*, repo_id: str, target: Path) -> Path:
    """Download what is missing of a repository into `target`; resumes after an interruption.

    Raises:
        KindlingError: `hub_not_found`, `hub_gated`, `hub_unreachable`.
    """
    # Imported here: it takes half a second, and only imports need it.
    from huggingface_hub import errors, snapshot_download

    target.mkdir(parents=True, exist_ok=True)
    try:
        snapshot_download(repo_id, local_dir=target, allow_patterns=ALLOWED)
    except errors.GatedRepoError as error:
        text = f"{repo_id} needs you to accept its terms on the hub first; then set HF_TOKEN and try again."
        raise KindlingError("hub_gated", text, 403) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise KindlingError("hub_not_found", f"The hub knows no model {repo_id[:100]!r}.", 404) from error
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        text = (
            f"{repo_id} could not be fetched from the hub: {type(error).__name__}."
            " Check the network, or import a folder instead."
        )
        raise KindlingError("hub_unreachable", text, 503) from error
    except Exception as error:
        # The hub's client lets its HTTP library's errors through, and they share no base that we could name.
        if type(error).__module__.split(".")[0] in {"httpx", "httpcore", "requests", "urllib3", "httpx2"}:
            text = f"{repo_id} could not be fetched from the hub: {type(error).__name__}. Check the network."
            raise KindlingError("hub_unreachable", text, 503) from error
        raise
    return target
