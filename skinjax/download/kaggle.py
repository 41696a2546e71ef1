"""Kaggle through its own client, which the user has installed and given a token."""

import shutil
import subprocess
import sys
from pathlib import Path

from absl import logging

from skinjax.errors import InputError

_TOKEN = (
    "make a token at https://www.kaggle.com/settings and put it where the kaggle command looks for"
    " it (~/.kaggle/kaggle.json, or KAGGLE_USERNAME and KAGGLE_KEY)"
)


def find_client() -> str | None:
    """Path of the `kaggle` command: on PATH, or beside this Python."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("kaggle") or shutil.which("kaggle", path=beside)


def fetch(dataset: str, folder: Path, page: str) -> Path:
    """Has the client download `dataset` (owner/name) into `folder`; returns the archive.

    A client that was stopped finds its own beginnings in `folder`.

    Raises:
      InputError: there is no client, it fails, or it leaves no archive.
    """
    client = find_client()
    by_hand = f"or download it from {page} with a browser and pass it with --from=FILE"
    if client is None:
        raise InputError(
            f"{dataset} comes from Kaggle and there is no kaggle command: `pip install kaggle`, and"
            f" {_TOKEN}; {by_hand}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    command = [client, "datasets", "download", dataset, "-p", str(folder)]
    logging.info("running %s", " ".join(command))
    shown = sys.stderr.isatty()  # then the client draws its own progress
    done = subprocess.run(
        command if shown else [*command, "-q"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if shown else subprocess.PIPE,
        stderr=None if shown else subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    said = [line.strip() for line in (done.stdout or "").splitlines() if line.strip()]
    last = f", saying {said[-1][:300]!r}" if said else ""
    if done.returncode:
        raise InputError(
            f"kaggle datasets download {dataset} ended with status {done.returncode}{last}: if it"
            f" was not let in, {_TOKEN}; {by_hand}"
        )
    archive = folder / f"{dataset.rpartition('/')[2]}.zip"
    if not archive.is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise InputError(
            f"kaggle datasets download {dataset} left {found} in {folder}{last}: expected"
            f" {archive.name}; {by_hand}"
        )
    return archive
