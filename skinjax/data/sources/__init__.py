"""Readers, one module per published layout: files and tables in, records out."""

from collections.abc import Callable

from ml_collections import ConfigDict

from skinjax.config import nearest
from skinjax.data.records import Reading
from skinjax.data.sources import (
    class_folders,
    csv_table,
    drawn,
    ham10000,
    isic9,
    isic2018,
    isic2019,
)
from skinjax.data.sources.ham10000 import read as read_ham10000
from skinjax.errors import InputError

__all__ = ["read", "read_ham10000"]


def read(config: ConfigDict) -> Reading:
    """Reads the data set that `config.data.dataset` names; draws it first if it is synthetic.

    Opens no image. Every id is there once, and a record's file was there in the walk.

    Raises:
      InputError: an unknown data set, or whatever its reader finds wrong.
    """
    data = config.data
    readers: dict[str, Callable[[], Reading]] = {
        "ham10000": lambda: ham10000.read(data.raw_dir),
        "ham10000_binary": lambda: ham10000.read_binary(data.raw_dir),
        "isic2018": lambda: isic2018.read(data.raw_dir),
        "isic2019": lambda: isic2019.read(data.raw_dir, data.isic2019_scc),
        "isic9": lambda: isic9.read(data.raw_dir),
        "folder": lambda: class_folders.read(data.raw_dir, data.classes),
        "csv": lambda: csv_table.read(data.raw_dir, data.table, data.columns, data.classes),
        "synthetic": lambda: drawn.read(config),
    }
    if data.dataset not in readers:
        raise InputError(
            f"data.dataset is {data.dataset!r}: expected one of {', '.join(sorted(readers))}"
            f"{nearest(data.dataset, readers)}"
        )
    return readers[data.dataset]()
