import pytest

from skinjax.data.sources import table_files
from skinjax.data.sources.folders import walk
from skinjax.errors import InputError


def test_the_first_folder_given_counts_then_depth_then_name(tmp_path, make_files, caplog):
    make_files("one/a/b/t.csv", "one/z/t.csv", "one/y/t.csv", "two/t.csv")
    assert table_files.find(walk([tmp_path / "one"]), "t.csv") == tmp_path / "one/y/t.csv"
    assert "3 tables are called t.csv: taken is" in caplog.text
    folders = walk([tmp_path / "two", tmp_path / "one"])
    assert table_files.find(folders, "t.csv") == tmp_path / "two/t.csv"


def test_a_table_is_found_in_the_folder_that_unzipping_makes(tmp_path, make_files):
    make_files("t.csv/t.csv")
    assert table_files.find(walk([tmp_path]), "t.csv") == tmp_path / "t.csv" / "t.csv"


def test_a_table_is_found_in_any_case_but_rather_in_the_very_one(tmp_path, make_files, caplog):
    make_files("one/T.CSV", "two/t.csv", "two/T.csv")
    assert table_files.find(walk([tmp_path / "one"]), "t.csv") == tmp_path / "one/T.CSV"
    assert not caplog.records
    assert table_files.find(walk([tmp_path / "two"]), "t.csv") == tmp_path / "two/t.csv"
    assert "2 tables are called t.csv" in caplog.text


def test_a_missing_table_is_one_line_with_the_nearest_name(tmp_path, make_files):
    make_files("a/tables.CSV")
    with pytest.raises(InputError, match=r"no table.csv in .*; did you mean tables.CSV\?") as error:
        table_files.find(walk([tmp_path]), "table.csv")
    assert "\n" not in str(error.value)
