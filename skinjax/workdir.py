"""The work directory of a run: where its files lie, and whose it is."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax.errors import InputError

# What a resumed run may change: paths, speed and logging. With dropout, another number of devices
# (in `parallel.`) draws other masks; all else that comes out is the same.
_MAY_CHANGE = (
    "data.raw_dir",
    "data.prepared_dir",
    "data.directory",
    "data.cache",
    "data.num_threads",
    "log.",
    "parallel.",
    "checkpoint.keep_best",
    "checkpoint.every_steps",
)


def config_path(workdir: Path) -> Path:
    """The resolved config of the run."""
    return workdir / "config.json"


def checkpoint_dir(workdir: Path) -> Path:
    """The folder of Orbax checkpoints."""
    return workdir / "checkpoints"


def pretrained_path(workdir: Path) -> Path:
    """Where the run's first weights came from, and what of that file was not used."""
    return workdir / "pretrained.json"


def has_checkpoints(workdir: Path) -> bool:
    """Says whether there is something to go on from."""
    # A save that a kill cut off has a longer name.
    return any(path.name.isdigit() for path in checkpoint_dir(workdir).glob("*"))


def evaluation_dir(workdir: Path, split: str) -> Path:
    """The folder of a split's predictions, metrics and plots."""
    return workdir / "evaluation" / split


def check_config(workdir: Path, config: ConfigDict) -> None:
    """Checks, changing nothing, that a work directory is free or belongs to the same config.

    Raises:
      InputError: it belongs to another config (naming the fields), or holds something else.
    """
    if workdir.exists() and not workdir.is_dir():
        raise InputError(f"--workdir={workdir} is a file; give a folder, it is made if missing")
    if not config_path(workdir).exists():
        others = [path.name for path in _foreign(workdir)]
        if others:
            raise InputError(
                f"--workdir={workdir} holds files that are no training run ({others[0]}, ...); "
                "give an empty or a new folder"
            )
        return
    there = config_lib.load_config(config_path(workdir))
    changed = [
        line
        for line in config_lib.differences(_with_variant(config), _with_variant(there))
        if not line.startswith(_MAY_CHANGE)
    ]
    if changed:
        raise InputError(
            f"--workdir={workdir} is of another config ({'; '.join(changed[:3])}"
            f"{'; ...' if len(changed) > 3 else ''}); give another folder, or the same config"
        )


def _with_variant(config: ConfigDict) -> ConfigDict:
    """A copy that says what earlier versions, whose networks were all timm's, left out."""
    return config_lib.with_fields(config, "model", {"variant": config.model.variant or "timm"})


def _foreign(workdir: Path) -> list[Path]:
    """Lists what is not from a run that ended before its first checkpoint."""
    if not workdir.exists():
        return []
    own = (workdir / ".lock", checkpoint_dir(workdir))
    kept = list(checkpoint_dir(workdir).glob("[0-9]*"))
    return kept + sorted(path for path in workdir.iterdir() if path not in own)


@contextlib.contextmanager
def claim(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds it against other runs; the lock dies with the process.

    Raises:
      InputError: another run is in it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"--workdir={workdir} is in use by another run; wait for it or give another folder"
            ) from None
        yield
