"""Files of a repository of the Hugging Face hub, through huggingface_hub and its cache.

The environment decides as for every user of that library: HF_HOME where the cache is, HF_ENDPOINT
which server, HF_HUB_OFFLINE whether it is asked at all, HF_TOKEN for what isn't public.
"""

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from absl import logging

from skinjax.errors import InputError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True)
class Snapshot:
    """Weights and config of one commit of a repository, on the disk."""

    weights: Path
    config: Path
    commit: str


def fetch(repository: str, revision: str) -> Snapshot:
    """The files of `repository` at `revision`: the hub's, or the cache's where nobody answers.

    Args:
      repository: as "timm/efficientnet_b0.ra_in1k".
      revision: branch, tag or commit.

    Raises:
      InputError: with what is wrong, and which file to put where if the hub can't be reached.
    """
    _check_name(repository)
    unreachable = "" if _is_cached_commit(repository, revision) else why_unreachable(
        repository, revision
    )  # fmt: skip
    config = _download(repository, revision, CONFIG, unreachable)
    commit = config.parent.name
    # By commit, so that both files are of the same one though the branch may move on.
    weights = _download(repository, commit, WEIGHTS, unreachable, revision)
    if unreachable:
        logging.info("%s: %s; its cached commit %s is used", repository, unreachable, commit[:12])
    return Snapshot(weights, config, commit)


def _check_name(repository: str) -> None:
    from huggingface_hub import errors, utils

    try:
        utils.validate_repo_id(repository)
    except errors.HFValidationError as error:
        raise_refused(repository, "", "", error)


def _is_cached_commit(repository: str, revision: str) -> bool:
    import huggingface_hub

    return len(revision) == 40 and all(
        isinstance(huggingface_hub.try_to_load_from_cache(repository, name, revision=revision), str)
        for name in (CONFIG, WEIGHTS)
    )


def why_unreachable(repository: str, revision: str) -> str:
    """Why nobody answers at the hub's address, or "".

    The library itself would try again for minutes before it gave up.
    """
    import huggingface_hub
    from huggingface_hub import errors

    url = huggingface_hub.hf_hub_url(repository, CONFIG, revision=revision)
    try:
        huggingface_hub.get_hf_file_metadata(
            url, timeout=huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT
        )
    except errors.HfHubHTTPError:
        return ""  # it answers: the download says what is wrong
    except errors.OfflineModeIsEnabled:
        return "the hub isn't asked, since HF_HUB_OFFLINE is set"
    except Exception as error:  # of the HTTP library below, which has been another one before
        return f"{huggingface_hub.constants.ENDPOINT} can't be reached ({reason_of(error)})"
    return ""


def _download(
    repository: str, revision: str, name: str, unreachable: str, asked_revision: str = ""
) -> Path:
    import huggingface_hub
    from huggingface_hub import errors

    try:
        return Path(
            huggingface_hub.hf_hub_download(
                repository, name, revision=revision, local_files_only=bool(unreachable)
            )
        )
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__ or error
        if status_of(cause) in (401, 403):
            raise_refused(repository, revision, name, cause)
        reason = unreachable or f"the hub doesn't serve {name} ({reason_of(cause)})"
        _raise_put(repository, asked_revision or revision, reason)
    except Exception as error:  # of the HTTP and Xet libraries below, too
        raise_refused(repository, revision, name, error)


def _raise_put(repository: str, revision: str, reason: str) -> NoReturn:
    """Says which file to put where."""
    import huggingface_hub

    url = huggingface_hub.hf_hub_url(repository, WEIGHTS, revision=revision)
    cache = huggingface_hub.constants.HF_HUB_CACHE
    raise InputError(
        f"{repository}: {reason}, it isn't in the cache {cache}, and no such file or folder is "
        "here; "
        f"download {url} and the {CONFIG} beside it where that can be done, put both into one "
        f"folder here and pass --config.model.pretrained=FOLDER/{WEIGHTS}, or train from scratch "
        "with --config.model.pretrained="
    )


def raise_refused(repository: str, revision: str, name: str, error: Any) -> NoReturn:
    """Says why the hub didn't give a file, or the disk didn't take it."""
    import huggingface_hub
    from huggingface_hub import errors

    home, cache = huggingface_hub.constants.ENDPOINT, huggingface_hub.constants.HF_HUB_CACHE
    match error:
        case errors.RevisionNotFoundError():
            problem = f"has no revision {revision!r}; leave @{revision} out for the newest"
        case errors.RemoteEntryNotFoundError():
            problem = f"has no file {name}; weights must be safetensors in timm's layout"
        case errors.GatedRepoError():
            problem = (
                f"is gated; ask for access at {home}/{repository}, then log in with "
                "`hf auth login` or set HF_TOKEN"
            )
        case errors.RepositoryNotFoundError():
            problem = (
                f"isn't at {home}, or is private, and no such file or folder is here; check the "
                "name, or log in with `hf auth login`"
            )
        case errors.HFValidationError():
            problem = "is no name of a repository; expected owner/repo, as timm/resnet50.a1_in1k"
        case _ if status_of(error) in (401, 403):
            problem = (
                f"can't be read with this account (status {status_of(error)}); check HF_TOKEN, or "
                "log in with `hf auth login`"
            )
        case OSError() if error.errno == errno.ENOSPC:
            problem = f"doesn't fit on the disk of {cache}; free some, or set HF_HOME elsewhere"
        case OSError() if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            problem = f"can't be written to {cache} ({error.strerror}); set HF_HOME elsewhere"
        case _:
            problem = f"didn't come whole: {name} stopped with {reason_of(error)}; start again"
    raise InputError(f"{repository} {problem}") from None


def status_of(error: BaseException) -> int | None:
    """The status of the answer that an error is about."""
    return getattr(getattr(error, "response", None), "status_code", None)


def reason_of(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".;:") if lines else type(error).__name__
