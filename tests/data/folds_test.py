"""Tests of the folds of a cross-validation on disk."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from skinjax.data import builder, folds
from skinjax.data.prepared import PreparedDataset
from skinjax.errors import InputError


@pytest.fixture
def config(config: ConfigDict, tmp_path: Path) -> ConfigDict:
    """Three folds, in a folder of their own."""
    config.data.folds = 3
    config.data.prepared_dir = str(tmp_path / "prepared")
    return config


def groups_of(prepared: PreparedDataset, split: str) -> set[str]:
    return {row["group"] for row in prepared.table(split)}


def test_every_image_outside_the_test_split_is_in_one_fold(config: ConfigDict) -> None:
    prepared_K = folds.prepare(config)
    val = [row["image_id"] for p in prepared_K for row in p.table("val")]
    rest = {row["image_id"] for name in ("train", "val") for row in prepared_K[2].table(name)}
    assert sorted(val) == sorted(rest)
    for prepared in prepared_K:
        assert not groups_of(prepared, "val") & groups_of(prepared, "train")
        assert prepared.table("test") == prepared_K[0].table("test")
    assert len({prepared.store for prepared in prepared_K}) == 1  # decoded once


def test_the_folder_of_one_fold_or_one_around_finds_them_all(config: ConfigDict) -> None:
    prepared_K = folds.prepare(config)
    config.data.folds = 2  # beside them
    folds.prepare(config)
    config.data.update(folds=3, raw_dir="")
    for directory in (prepared_K[1].directory, prepared_K[1].store, Path(config.data.prepared_dir)):
        config.data.directory = str(directory)
        for fold, prepared in enumerate(prepared_K):
            own = folds.of_fold(config, fold)
            assert own.data.directory == str(prepared.directory.resolve())
            assert (own.data.fold, own.data.folds) == (fold, 3)
        assert [one.fingerprint for one in folds.prepare(config)] == [
            one.fingerprint for one in prepared_K
        ]


def test_folds_that_are_not_there_or_not_clear_say_what_to_do(config: ConfigDict) -> None:
    prepared_K = folds.prepare(config)
    config.data.split_seed = 1
    folds.prepare(config)
    config.data.directory = str(prepared_K[0].store)
    with pytest.raises(InputError, match=r"fold 0 of 3 several times .*give data.directory one"):
        folds.of_fold(config, 0)
    config.data.directory = str(prepared_K[0].directory)
    config.data.split_seed = 0
    folds.of_fold(config, 0)
    shutil.rmtree(prepared_K[2].directory)
    with pytest.raises(InputError, match=r"no fold 2 of 3 .* prepare them with"):
        folds.of_fold(config, 0)
    config.data.folds = 0
    config.data.directory = ""
    whole = builder.prepare(config)
    config.data.update(folds=3, directory=str(whole.directory))
    with pytest.raises(InputError, match="no fold 0 of 3"):
        folds.of_fold(config, 0)


def test_folds_that_do_not_cut_one_data_set_are_refused(config: ConfigDict) -> None:
    first, second, third = folds.prepare(config)
    with pytest.raises(InputError, match="is for validation in fold 0 and in fold 1"):
        folds.check([first, first, third])
    with pytest.raises(InputError, match="fold 0 has other images than the folds together"):
        folds.check([first, second])

    @dataclasses.dataclass(frozen=True)
    class Changed(PreparedDataset):
        def table(self, name: str) -> list[dict]:
            rows = super().table(name)
            if name == "test":
                return rows[1:]
            shared = first.table("val")[0]["group"]
            return [{**row, "group": shared} for row in rows] if name == "val" else rows

    changed = Changed(**{f.name: getattr(second, f.name) for f in dataclasses.fields(second)})
    with pytest.raises(InputError, match=r"stand in more than one split.*fold 0 and fold 1"):
        folds.check([first, changed, third])
