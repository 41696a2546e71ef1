"""Are published tables whole? By the number of their rows, where it is known."""

import csv
from pathlib import Path

from skinjax.download.catalog import File


def fault(path: Path, file: File) -> str:
    """What is wrong with the table in `path`, or "" (also for what is no table)."""
    if file.rows is None:
        return ""
    found = num_rows(path)
    if found >= file.rows:
        return ""
    return f"{found} whole rows, and {file.name} is published with {file.rows}, so it is cut off"


def num_rows(path: Path) -> int:
    """Counts the rows below the header that have as many fields as it, by commas or tabs."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline()
        delimiter = "\t" if "\t" in header else ","
        width = len(next(csv.reader([header], delimiter=delimiter), []))
        count = 0
        try:
            for row in csv.reader(file, delimiter=delimiter):
                count += len(row) == width
        except csv.Error:  # no table from here on
            pass
    return count
