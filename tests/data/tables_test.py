import itertools

import pytest

from skinjax.data import tables
from skinjax.errors import InputError


def read(path, *columns, **settings):
    return [values for _, values in tables.read(path, columns, **settings)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_separators_line_ends_and_bom(tmp_path, separator, end, bom):
    path = tmp_path / "t.csv"
    lines = ["", "b,a", " x ,'y'", "", "z,ü"]
    text = bom + end.join(line.replace(",", separator) for line in lines)
    path.write_bytes(text.encode())
    assert read(path, "a", "b", optional=("c",)) == [("'y'", "x", ""), ("ü", "z", "")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a,b\n1,ü\n".encode("utf-16"), "not a table in UTF-8.*iconv"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1: holds a zero byte.*UTF-16"),
        ("a,b\n1,ü\n".encode("latin-1"), "not a table in UTF-8.*iconv"),
        (b"a,b\n1,2\n3,\0\n", "line 3: holds a zero byte"),
        (b"a,b\n1,2,3\n", "line 2: expected 2 values"),
        (b'a,b\n1,"2\n3,4"\n', r"line 2: a value goes on in the next line \(an unclosed quote, or"),
        (b'a,b,c\n1,"2\n",3\n', "line 2: a value goes on"),
        (b'a,b,c\n1,2,"3\r",\n', "line 2: a value goes on"),
        (b'a,b,c\n1,2,3\n4,5,"6\n7,8,9"\n', "line 3: a value goes on"),
        (b'a,b,"c\nd"\n1,2,3\n', "line 1: a value goes on"),
        (b'a,b,c\n1,2,"3\n', "line 2: unexpected end of data"),
        (b"a,b\n1," + b"2" * 200_000 + b"\n", "line 2: field larger than field limit"),
        (b"a,B\n1,2\n", r"has no column b; it has a, B"),
        (b"a,bb\n1,2\n", r"has no column b; it has a, bb; did you mean bb\?"),
        (b"a,b,a\n1,2,3\n", "has column a more than once"),
        (b"a,b\n", "is empty"),
        (b"", "is empty"),
    ],
)
def test_refuses_in_one_line(tmp_path, data, message):
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        read(path, "a", "b")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_that_are_not_read_may_have_line_breaks(tmp_path, place, end):
    path = tmp_path / "t.csv"
    rows = [["a", "b"], ["1", "x"], ["2", "y"], ["3", "z"]]
    for row, note in zip(rows, ["note", '"one\n\ntwo, ""three"""', "", f'"{end}"'], strict=True):
        row.insert(place, note)
    path.write_text(end.join(map(",".join, rows)), newline="")
    assert list(tables.read(path, ("a", "b"))) == [
        (2, ("1", "x")), (5, ("2", "y")), (6, ("3", "z")),
    ]  # fmt: skip


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    "notes", [["n", "n", "n"], ['"n\nn"', '"n\nn"', '"\nn"'], ["", '""', '"n"']]
)
def test_stray_quotes_swallow_and_mix_no_rows(tmp_path, place, notes):
    rows = [["a", "b"], ["1", "x"], ["2", "y"], ["3", "z"]]
    expected = [tuple(row) for row in rows[1:]]
    for row, note in zip(rows, ["note", *notes], strict=True):
        row.insert(place, note)
    text = "".join(",".join(row) + "\n" for row in rows)
    path = tmp_path / "t.csv"
    first = text.index("\n") + 1
    num_read = 0
    for one, other in itertools.combinations_with_replacement(range(first, len(text) + 1), 2):
        for added in (text[one:other], '"' + text[one:other]):
            path.write_text(text[:one] + added + '"' + text[other:])
            try:
                found = read(path, "a", "b")
            except InputError:
                continue
            num_read += 1
            assert [tuple(v.replace('"', "") for v in values) for values in found] == expected
    assert num_read > 5
