from dataclasses import replace
from pathlib import Path

import pytest

from skinjax.download import catalog, tables

SHARED = Path(__file__).parents[3] / "shared" / "data"
ROWS = "a,b,c\n1,2,3\n4,5,6\n"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", 0), ("a,b,c", 0), (ROWS, 2), (ROWS[:-1], 2), (ROWS[:-3], 1), (ROWS + "\n\n", 2),
        (ROWS.replace("\n", "\r\n"), 2), (ROWS.replace(",", "\t"), 2), ("\ufeff" + ROWS, 2),
        ('a,b\n"1,1",2\n"1', 1), ("a,b\n" + "x" * 200_000, 0),
    ],
)  # fmt: skip
def test_rows_that_are_whole(tmp_path, text, rows):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert tables.num_rows(path) == rows


def test_fewer_rows_than_published_are_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(ROWS)
    file = catalog.File("a.csv", "/a.csv", rows=3)
    assert tables.fault(path, file).startswith("2 whole rows, and a.csv is published with 3")
    for rows in (None, 1, 2):
        assert tables.fault(path, replace(file, rows=rows)) == ""


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real data beside the repository")
@pytest.mark.parametrize("name", ["ham10000", "isic2019"])
def test_the_published_tables_are_whole(name):
    counted = [file for file in catalog.dataset(name).publications[0].files if file.rows]
    assert len(counted) == {"ham10000": 1, "isic2019": 2}[name]
    for file in counted:
        assert tables.num_rows(SHARED / name / file.name) == file.rows
