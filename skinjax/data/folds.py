"""The folds of a cross-validation as data sets on disk, each image once in a validation split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from skinjax import config as config_lib
from skinjax.data import builder, image_store, splits
from skinjax.data.prepared import MANIFEST, PreparedDataset, open_prepared
from skinjax.errors import InputError


def are_all_wanted(data: ConfigDict) -> bool:
    """Says whether `config.data` asks for every fold and not for one of them."""
    return data.folds > 1 and data.fold == -1


def of_fold(config: ConfigDict, fold: int) -> ConfigDict:
    """The config of one fold; with `data.directory`, with the folder of that fold.

    `data.directory` may be the folder of any fold, or one around all of them.

    Raises:
      InputError: `data.directory` has not each fold once, or was prepared with other settings.
    """
    directory = str(_find(config.data)[fold].directory) if config.data.directory else ""
    of_fold = {"fold": fold, "directory": directory}
    return builder.settled(config_lib.with_fields(config, "data", of_fold))


def prepare(
    config: ConfigDict, runner: image_store.Runner = image_store.on_this_machine
) -> list[PreparedDataset]:
    """Prepares every fold; the images are decoded once.

    Raises:
      InputError: as `builder.prepare` and `check`.
    """
    prepared_K = [
        builder.prepare(of_fold(config, fold), runner) for fold in range(config.data.folds)
    ]
    check(prepared_K)
    return prepared_K


def check(prepared_K: Sequence[PreparedDataset]) -> None:
    """Checks that the folds are of one data set, which they cut into parts.

    Raises:
      InputError: an image that is for validation in no fold or in two, a lesion or patient in two,
        a fold without an image, or another test split than in the first fold.
    """
    fold_of: dict[str, str] = {}
    group_N: list[str] = []
    for fold, prepared in enumerate(prepared_K):
        val = prepared.table("val")
        if not val:
            raise InputError(
                f"fold {fold} of {len(prepared_K)} has no image: expected one at least; set"
                " data.folds to a smaller number"
            )
        for row in val:
            if row["image_id"] in fold_of:
                raise InputError(
                    f"image {row['image_id']} is for validation in {fold_of[row['image_id']]} and"
                    f" in fold {fold}: expected it in one; the folds are not of one data set,"
                    " prepare them again"
                )
            fold_of[row["image_id"]] = f"fold {fold}"
        group_N += [row["group"] for row in val]
    splits.check_no_leak(group_N, np.array(list(fold_of.values())), list(fold_of))
    test = _ids(prepared_K[0], "test")
    for fold, prepared in enumerate(prepared_K):
        used = _ids(prepared, "train") | _ids(prepared, "val")
        differing = sorted(used ^ fold_of.keys() | _ids(prepared, "test") ^ test)
        if differing:
            raise InputError(
                f"fold {fold} has other images than the folds together, e.g. {differing[0]}: the"
                " folds are not of one data set, prepare them again"
            )


def _ids(prepared: PreparedDataset, split: str) -> set[str]:
    return {row["image_id"] for row in prepared.table(split)}


def _find(data: ConfigDict) -> list[PreparedDataset]:
    """The folds that `data.directory` names, in order."""
    directory = Path(data.directory)
    beside = (directory / MANIFEST).is_file()
    around = directory.parent if beside else directory
    manifests = [path for depth in range(4) for path in around.glob("*/" * depth + MANIFEST)]
    found = [
        prepared
        for path in sorted(manifests)
        if not path.parent.name.startswith(".")
        and (prepared := open_prepared(path.parent)).settings["folds"] == data.folds
    ]
    if beside:
        own = _settings_but_fold(open_prepared(directory))
        found = [prepared for prepared in found if _settings_but_fold(prepared) == own]
    by_fold: dict[int, list[PreparedDataset]] = {fold: [] for fold in range(data.folds)}
    for prepared in found:
        by_fold.setdefault(prepared.settings["fold"], []).append(prepared)
    for fold, candidates in by_fold.items():
        if not candidates:
            raise InputError(
                f"there is no fold {fold} of {data.folds} in {around}: expected every fold; prepare"
                f" them with --config.data.folds={data.folds}, or set data.raw_dir in place of"
                " data.directory"
            )
        if len(candidates) > 1:
            listed = ", ".join(str(prepared.directory) for prepared in candidates)
            raise InputError(
                f"{around} holds fold {fold} of {data.folds} several times ({listed}): expected it"
                " once; give data.directory one fold of those that belong together, or set"
                " data.raw_dir in its place"
            )
    return [candidates[0] for candidates in by_fold.values()]


def _settings_but_fold(prepared: PreparedDataset) -> dict:
    return {name: value for name, value in prepared.settings.items() if name != "fold"}
