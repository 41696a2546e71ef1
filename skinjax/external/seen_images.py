"""Which images of another data set a model has seen in training or validation."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from skinjax import checkpoint
from skinjax.data import duplicates, groups, image_store, splits
from skinjax.data.prepared import PreparedDataset, open_prepared
from skinjax.external.data import ExternalData
from skinjax.external.known_lesions import key

_PUBLISHED_LESION = re.compile(r"[A-Z]+\d*_\d+")  # HAM_0000118, BCN_0000123, MSK4_0011169


@dataclass(frozen=True)
class Seen:
    """What the check found.

    Attributes:
      unchecked: why the check could not be made; '' if it was.
      reasons: by the place of the row, why an image counts as seen.
    """

    unchecked: str
    reasons: dict[int, str]


def find(workdir: Path, which: str, data: ExternalData) -> Seen:
    """Compares a data set with what a checkpoint was trained and validated on.

    An image is seen if the run's records have its id (without `_downsampled`), its lesion, or a
    photograph so like it that `duplicates.near` takes the two for one, under whatever name. Ids
    that are not ISIC's are compared only within one layout, and not within "folder", since every
    folder has an IMG_1.

    The records are those of the run's prepared data set; where that isn't there, nothing is
    checked. An image whose lesion nothing names is compared by id and picture alone.

    Raises:
      InputError: there is no such run or checkpoint, or its prepared data set is broken.
    """
    checkpointer, config = checkpoint.open_run(workdir)
    with contextlib.closing(checkpointer):
        about = checkpointer.describe(checkpointer.choose(which))
    if not about.fingerprint:
        return Seen("the model was imported, and what it was trained on is not known", {})
    prepared = _prepared_of_run(config.data, about.fingerprint)
    if prepared is None:
        where = config.data.directory or config.data.prepared_dir
        return Seen(f"the run's prepared data set is not in {where}", {})
    names = splits.SPLITS if config.data.train_on == "all" else ("train", "val")
    rows = [row for name in names if sum(prepared.counts[name]) for row in prepared.table(name)]
    same_layout = data.dataset == config.data.dataset != "folder"
    reasons = _by_names(rows, data.rows, same_layout)
    rest = [place for place in range(len(data.rows)) if place not in reasons]
    return Seen("", reasons | _by_pictures(prepared, rows, data, rest))


def _prepared_of_run(data: ConfigDict, fingerprint: str) -> PreparedDataset | None:
    folders = [Path(data.directory)] if data.directory else []
    if data.prepared_dir:
        parent = Path(data.prepared_dir) / data.dataset
        folders += sorted(parent.glob(f"*/split-{fingerprint[:12]}"))
    for folder in folders:
        if not folder.is_dir():
            continue
        prepared = open_prepared(folder)
        if prepared.fingerprint == fingerprint:
            return prepared
    return None


def _by_names(
    seen: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], same_layout: bool
) -> dict[int, str]:
    image_ids = {key(row["image_id"]) for row in seen}
    lesion_ids = {key(row["lesion_id"]) for row in seen}
    reasons = {}
    for place, row in enumerate(rows):
        image_id, lesion_id = key(row["image_id"]), key(row["lesion_id"])
        if image_id in image_ids and (same_layout or image_id.startswith("ISIC_")):
            reasons[place] = "seen in training or validation: the same image id"
        elif lesion_id in lesion_ids and (same_layout or _PUBLISHED_LESION.fullmatch(lesion_id)):
            reasons[place] = "seen in training or validation: another image of the lesion"
    return reasons


def _by_pictures(
    prepared: PreparedDataset,
    seen: Sequence[Mapping[str, Any]],
    data: ExternalData,
    places: Sequence[int],
) -> dict[int, str]:
    """Those of `places` whose picture is near one that was seen, or near such a one."""
    facts = image_store.open_store(prepared.store).facts()
    hash_of = {one.image_id: one.perceptual_hash for one in facts}
    hash_N = [hash_of.get(row["image_id"], "") for row in seen] + data.hashes(places)
    group_N = groups.join(len(hash_N), pairs=duplicates.near(hash_N))
    seen_groups = set(group_N[: len(seen)].tolist())
    return {
        place: "seen in training or validation: the same picture under another name"
        for place, group in zip(places, group_N[len(seen) :].tolist(), strict=True)
        if group in seen_groups
    }
