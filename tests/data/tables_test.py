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
        (b'a,b\n1,"2\n3,4"\n', "line 2: a value goes on in the next line"),
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
