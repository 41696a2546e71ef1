"""The file that `--keras` names: here, or in a repository of the Hugging Face hub."""

import re
from pathlib import Path

from absl import logging

from skinjax.errors import InputError
from skinjax.models.pretrained import contents, hub

_ON_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^\s@/]+))?/([^\s@]+)")
_SAVE = "open it in Keras and save it with model.save('model.h5')"


def find(source: str) -> Path:
    """The HDF5 file that `source` names; downloads it where it is on the hub.

    Args:
      source: a path, or "hf://owner/repo[@revision]/model.h5".

    Raises:
      InputError: there is none, or it is of another kind.
    """
    on_hub = source.startswith("hf://")
    path = Path(source) if on_hub else Path(source).expanduser()
    if path.suffix == ".keras":
        raise InputError(f"--keras={source} is Keras's zip archive, which isn't read here; {_SAVE}")
    if path.suffix in contents.PICKLED:
        raise InputError(f"--keras={source} is a pickle by its name, and none is opened; {_SAVE}")
    if on_hub:
        match = _ON_HUB.fullmatch(source)
        if not match:
            raise InputError(
                f"--keras={source} names no file on the hub; expected hf://OWNER/REPOSITORY/FILE.h5"
            )
        path = _fetch(match[1], match[2] or "main", match[3])
    elif path.is_dir():
        raise InputError(f"--keras={source} is a folder, as a SavedModel is; {_SAVE}")
    elif not path.is_file():
        raise InputError(
            f"--keras={source}: there is no such file; give the path of a model that Keras saved as"
            " .h5, or hf://OWNER/REPOSITORY/FILE.h5"
        )
    contents.check_hdf5(path)
    return path


def _fetch(repository: str, revision: str, name: str) -> Path:
    """A file of a repository: the hub's, or the cache's where nobody answers."""
    import huggingface_hub
    from huggingface_hub import errors

    unreachable = hub.why_unreachable(repository, revision)
    try:
        path = huggingface_hub.hf_hub_download(
            repository, name, revision=revision, local_files_only=bool(unreachable)
        )
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__ or error
        if hub.status_of(cause) in (401, 403):
            hub.raise_refused(repository, revision, name, cause)
        reason = unreachable or f"the hub doesn't serve {name} ({hub.reason_of(cause)})"
        url = huggingface_hub.hf_hub_url(repository, name, revision=revision)
        raise InputError(
            f"{repository}: {reason}, and it isn't in the cache "
            f"{huggingface_hub.constants.HF_HUB_CACHE}; download {url} where that can be done, and "
            "pass the file as --keras"
        ) from None
    except errors.RemoteEntryNotFoundError:
        raise InputError(
            f"{repository} has no file {name} at {revision}; check its name on the hub"
        ) from None
    except Exception as error:  # of the HTTP and Xet libraries below, too
        hub.raise_refused(repository, revision, name, error)
    if unreachable:
        logging.warning("%s: %s; the file in the cache is used", repository, unreachable)
    return Path(path)
