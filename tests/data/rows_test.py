import pytest

from skinjax.data.rows import Rows

NAMES = ("id", "age", "site")
VALUES = [("a", None, "back"), ("b", 40.0, ""), ("c", 1, "back"), ("d", 1.0, "ba" + "ck")]


@pytest.fixture
def rows():
    return Rows(NAMES, iter(VALUES))


def test_rows_are_dicts_in_order(rows):
    expected = [dict(zip(NAMES, values, strict=True)) for values in VALUES]
    assert list(rows) == expected
    assert rows == expected
    assert rows != expected[:2]
    assert (len(rows), rows[-1], rows[1:3]) == (4, expected[-1], expected[1:3])
    assert rows.column("age") == [None, 40.0, 1, 1.0]
    with pytest.raises(IndexError):
        rows[4]


def test_a_row_is_a_new_dict(rows):
    rows[0]["site"] = "face"
    assert rows[0]["site"] == "back"


def test_equal_values_are_kept_once_but_not_those_of_another_type():
    text = "lower extremity"
    rows = Rows(("site", "age"), [(text, 1), ("lower " + text[6:], 1.0)])
    assert rows[0]["site"] is rows[1]["site"]
    assert [type(row["age"]) for row in rows] == [int, float]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        Rows(NAMES, [("a", None)])


def test_no_rows():
    assert len(Rows(NAMES, [])) == 0
    assert Rows(NAMES, []) == []
