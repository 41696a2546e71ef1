"""Rows of a table as mappings, kept by column: a dict for each would be most of the memory."""

from collections.abc import Iterable, Sequence
from typing import Any, overload

_MOST = 1 << 14  # distinct values that are looked for again


class Rows(Sequence[dict[str, Any]]):
    """A table of named columns: `rows[i]` is a new dict of row i.

    Values that repeat are kept once as long as few are distinct (after 16,384 of them, new ones are
    kept as they come), and a row takes 8 bytes for each column besides: a patient's age, sex and
    site are 24 bytes where a dict with them is 250.
    """

    def __init__(self, names: Sequence[str], values: Iterable[Sequence[Any]]):
        """Takes the columns' names, and of each row the values in that order."""
        self._columns: dict[str, list[Any]] = {name: [] for name in names}
        appends = [column.append for column in self._columns.values()]
        # By type as well, since 1 == 1.0 == True.
        known: dict[tuple[type, Any], Any] = {}
        for row in values:
            for append, value in zip(appends, row, strict=True):
                key = (type(value), value)
                # What repeats comes early; ids would make this as large as the table.
                append(
                    known.get(key, value) if len(known) > _MOST else known.setdefault(key, value)
                )

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return {name: column[index] for name, column in self._columns.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def column(self, name: str) -> Sequence[Any]:
        """The values of one column, which must not be changed."""
        return self._columns[name]
