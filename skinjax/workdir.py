"""The work directory of a run: where its files lie, and whose it is."""

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax.errors import InputError

# What a resumed run may change: paths, speed, memory and logging. With dropout, another number of
# devices (in `parallel.`) or of parts (`accumulate`, which batch norm sees one by one) draws other
# masks; all else that comes out is the same.
_MAY_CHANGE = (
    "data.raw_dir",
    "data.prepared_dir",
    "data.directory",
    "data.cache",
    "data.num_threads",
    "data.on_device",
    "evaluate.batch_size",
    "log.",
    "model.remat",
    "optimizer.accumulate",
    "parallel.",
    "checkpoint.keep_best",
    "checkpoint.every_steps",
    "profile",
)


# All that a run leaves that ends before its first checkpoint.
_EARLY = {
    ".lock", "checkpoints", "config.json", "history.csv", "history.png", "pretrained.json",
    "profile", "steps.csv", "tensorboard", "versions.json",
}  # fmt: skip
# What the folds of a cross-validation said, kept also where none of them got as far as training.
_FOLD_LOG = re.compile(r"fold_\d+\.log")
# What `logs.write_bytes` was writing when it was killed.
_HALF_WRITTEN = re.compile(r"\..+\.\d+\.tmp")


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

    A run that ended before its first checkpoint leaves it free.

    Raises:
      InputError: it belongs to another config (naming the fields), or holds something else.
    """
    _check_writable(workdir)
    if not config_path(workdir).exists():
        kept = list(checkpoint_dir(workdir).glob("[0-9]*"))
        others = [path.name for path in [*kept, *_foreign(workdir)]]
        if others:
            raise InputError(
                f"--workdir={workdir} holds files that are no training run ({others[0]}, ...); "
                "give an empty or a new folder"
            )
        return
    if not has_checkpoints(workdir) and not _foreign(workdir):
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
    return sorted(path for path in workdir.iterdir() if not _is_early(path.name))


def _is_early(name: str) -> bool:
    patterns = (_HALF_WRITTEN, _FOLD_LOG)
    return name in _EARLY or any(pattern.fullmatch(name) for pattern in patterns)


def _check_writable(workdir: Path) -> None:
    """Tries it before hours of preparing data, on the nearest folder that there is."""
    there = next(path for path in (workdir, *workdir.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        which = "is" if there == workdir else f"would be in {there}, which is"
        raise InputError(f"--workdir={workdir} {which} a file; give a folder, made if missing")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(
            f"--workdir={workdir} can't be written ({there} is read-only for this user); make it "
            "writable, or give another folder"
        )


@contextlib.contextmanager
def claim(workdir: Path) -> Iterator[None]:
    """Makes the folder and holds it against other runs; the lock dies with the process.

    Raises:
      InputError: another run is in it, or it can't be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((workdir / ".lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"--workdir={workdir} is in use by another run; wait for it or give another folder"
            ) from None
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):  # some network file systems
                raise InputError(
                    f"--workdir={workdir} can't be written ({error.strerror}); give another folder"
                ) from error
            logging.warning(
                "no file locks in %s (%s): start only one run in it at a time", workdir, error
            )
        for path in workdir.iterdir():
            if _HALF_WRITTEN.fullmatch(path.name):
                path.unlink()
        yield
