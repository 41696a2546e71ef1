"""Tests of the CSV of predictions: whole or partial, and readable whatever the names."""

import contextlib
import csv
import errno
import os
from pathlib import Path

import pytest

from skinjax.errors import InputError
from skinjax.predict import Prediction
from skinjax.predict import table as prediction_table
from skinjax.predict.table import PredictionTable

GOOD = Prediction(
    'a "b",\nc\rd.jpg', "mel", "melanoma", {"mel": 0.1 + 0.2, "nv": 0.7}, True, 0.3, False, -1.5
)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_are_read_back(tmp_path: Path) -> None:
    bad = Prediction("b\udcff.jpg", error="cannot read it")
    bare = Prediction("c.jpg", "nv", "nevus", {"mel": 0.0, "nv": 1.0})
    with PredictionTable(tmp_path / "out.csv", ("mel", "nv")) as table:
        for one in (GOOD, bad, bare):
            table.write(one)
        assert not table.path.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    first, second, third = read(tmp_path / "out.csv")
    assert tuple(first) == (*prediction_table.COLUMNS, "prob_mel", "prob_nv")
    assert first["image"] == 'a "b",\nc d.jpg'
    assert (first["predicted"], first["description"]) == ("mel", "melanoma")
    assert (first["decision"], first["abstained"], first["unknown_score"]) == (
        "positive", "no", "-1.5",
    )  # fmt: skip
    assert float(first["prob_mel"]) == 0.1 + 0.2
    assert second.pop("image") == "b\\udcff.jpg"
    assert second.pop("error") == "cannot read it"
    assert set(second.values()) == {""}
    assert (third["decision"], third["abstained"], third["unknown_score"]) == ("", "", "")


def test_what_is_interrupted_stays_as_a_part(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("an earlier one")
    table = PredictionTable(path, ("mel", "nv"))
    with contextlib.suppress(KeyboardInterrupt), table:
        table.write(GOOD)
        raise KeyboardInterrupt
    assert path.read_text() == "an earlier one"
    assert table.partial == tmp_path / "out.partial.csv"
    assert len(read(table.partial)) == table.num_rows == 1
    table.partial.unlink()
    with contextlib.suppress(KeyboardInterrupt), table:
        raise KeyboardInterrupt
    assert [one.name for one in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("earlier", [True, False])
def test_a_full_disk_leaves_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: bool
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    table = PredictionTable(tmp_path / "out.csv", ("mel", "nv"))

    def fill() -> None:
        with table:
            table.write(GOOD)
            if earlier:
                raise KeyError

    with pytest.raises(KeyError if earlier else OSError):
        fill()
    assert [one.name for one in tmp_path.iterdir()] == ["out.partial.csv"]


def test_wrong_paths(tmp_path: Path) -> None:
    prediction_table.check_path(tmp_path / "new" / "out.csv")
    assert (tmp_path / "new").is_dir()
    with pytest.raises(InputError, match="is a folder; give a file"):
        prediction_table.check_path(tmp_path)
    with pytest.raises(InputError, match=r"out.jpg should end in .csv"):
        prediction_table.check_path(tmp_path / "out.jpg")
