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
    whose name is '', are empty. Values of other columns may go on over lines, in quotes.

    Raises:
      InputError: no table, column or row; a column twice, quotes left open or that may have been, a
        row with too many or too few values, or a file that is not text in UTF-8.
    """
    empty = True
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:  # -sig: a BOM is no column name
            lines = _read_lines(file, table)
            line, header, num_delimiters = next(lines, (0, [], None))
            if num_delimiters is not None:
                raise _goes_on(table, line)
            header = [name.strip() for name in header]
            _check_header(header, columns, table)
            wanted = (*columns, *optional)
            places = [header.index(name) if name and name in header else -1 for name in wanted]
            for line, values, num_delimiters in lines:
                if num_delimiters is not None:
                    read_values = [values[place] for place in places if 0 <= place < len(values)]
                    _check_one_row(values, read_values, num_delimiters, len(header), table, line)
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


def _read_lines(file: TextIO, table: Path) -> Iterator[tuple[int, list[str], int | None]]:
    """Line number and values of each row that isn't blank, the header being the first.

    Third is None for a row on one line, else how many delimiters its lines hold, quoted or not.
    """
    header = next((line for line in file if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header.count)
    file.seek(0)
    taken: list[str] = []
    reader = csv.reader(_without_nul(file, table, taken), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        taken.clear()
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{table}, line {line}: {error}; expected every quote to be closed"
            ) from None
        if values is None:
            return
        if values:
            one_line = len(taken) == 1
            yield line, values, None if one_line else "".join(taken).count(delimiter)


def _check_one_row(
    values: Sequence[str],
    read_values: Sequence[str],
    num_delimiters: int,
    num_columns: int,
    table: Path,
    line: int,
) -> None:
    """Refuses lines read as one row if a quote left open may have made them one.

    Such a quote takes in what follows up to the next quote. Each row that it reaches still has its
    delimiters, quoted or not, so its lines hold at least those of two rows. A cell whose text alone
    holds as many is refused too: it can't be told apart.
    """
    delimiters_of_two = 2 * (num_columns - 1)
    broken = any("\n" in value or "\r" in value for value in read_values)
    if broken or len(values) != num_columns or num_delimiters >= delimiters_of_two:
        raise _goes_on(table, line)


def _goes_on(table: Path, line: int) -> InputError:
    return InputError(
        f"{table}, line {line}: a value goes on in the next line (an unclosed quote, or a line"
        " break inside a cell: remove it)"
    )


def _without_nul(file: TextIO, table: Path, taken: list[str]) -> Iterator[str]:
    """The lines of `file`; each is appended to `taken`, too."""
    for number, line in enumerate(file, start=1):
        if "\0" in line:
            raise InputError(
                f"{table}, line {number}: holds a zero byte, so it is not a table in UTF-8: it may"
                " be in UTF-16 (convert it with iconv -f UTF-16 -t UTF-8), or broken"
            )
        taken.append(line)
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
