"""Reading tables strictly: nothing is guessed, and what is wrong is said with its line."""

import collections
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from skinjax.config import nearest
from skinjax.errors import InputError

_DELIMITERS = ",;\t"


def read(
    table: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Line number and values of the wanted columns, without spaces around them, of each row.

    Expects UTF-8 with or without a byte order mark; commas, semicolons or tabs, whichever there are
    most of in the first line; and any line ends. Columns that are `optional` and missing, or
    whose name is '', are empty.

    Raises:
      InputError: no table, column or row; a column twice, quotes left open, a row with too many or
        too few values, or a file that is not text in UTF-8.
    """
    empty = True
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # -sig: a BOM is no column name
            lines = _read_lines(file, table)
            _, header = next(lines, (0, []))
            header = [name.strip() for name in header]
            _check_header(header, columns, table)
            wanted = (*columns, *optional)
            places = [header.index(name) if name and name in header else -1 for name in wanted]
            for line, values in lines:
                if len(values) != len(header):
                    raise InputError(
                        f"{table}, line {line}: expected {len(header)} values, as many as there"
                        f" are columns, and there are {len(values)}"
                    )
                empty = False
                values.append("")  # of the columns that aren't there
                yield line, tuple([values[place].strip() for place in places])
    except UnicodeDecodeError as error:
        raise InputError(
            f"{table} is not a table in UTF-8: {error}; save it as 'CSV UTF-8', or convert it with"
            " iconv -f LATIN1 -t UTF-8 (or -f UTF-16)"
        ) from None
    if empty:
        raise InputError(f"{table} is empty: expected one row per image")


def shown(names: Sequence[str]) -> str:
    """Names from a file in a row, on one line whatever they hold."""
    text = ", ".join(name if name and name.isprintable() else repr(name) for name in names)
    return text if len(text) <= 500 else f"{text[:500]}..."


def _read_lines(file: TextIO, table: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each line that isn't blank, the header being the first.

    A quote left open takes in all that follows up to the next quote, and with it whole rows: so no
    value may go on in the next line.
    """
    header = next((line for line in file if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    file.seek(0)
    reader = csv.reader(_without_nul(file, table), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{table}, line {line}: {error}; expected every quote to be closed"
            ) from None
        if values is None:
            return
        if reader.line_num != line:
            raise InputError(
                f"{table}, line {line}: a value goes on in the next line; expected every quote to"
                " be closed in its line"
            )
        if values:
            yield line, values


def _without_nul(file: TextIO, table: Path) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if "\0" in line:
            raise InputError(
                f"{table}, line {number}: holds a zero byte, so it is not a table in UTF-8: it may"
                " be in UTF-16 (convert it with iconv -f UTF-16 -t UTF-8), or broken"
            )
        yield line


def _check_header(header: list[str], columns: Sequence[str], table: Path) -> None:
    missing = [name for name in columns if name and name not in header]
    if missing and header:
        raise InputError(
            f"{table} has no column {shown(missing)}; it has {shown(header)}"
            f"{nearest(missing[0], header)}"
        )
    repeated = [name for name, count in collections.Counter(header).items() if count > 1]
    if repeated:
        raise InputError(
            f"{table} has column {shown(repeated)} more than once: expected it once, so that"
            " its values are clear"
        )
