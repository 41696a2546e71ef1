"""The CSV of what was predicted of images that have no label: written as a stream."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from skinjax.errors import InputError

if TYPE_CHECKING:  # it would import JAX
    from skinjax.predict import Prediction

COLUMNS = (
    "image", "predicted", "description", "decision", "abstained", "unknown_score", "error",
)  # fmt: skip
_DECISIONS = {None: "", True: "positive", False: "negative"}
_YES_NO = {None: "", True: "yes", False: "no"}


class PredictionTable:
    """A CSV that gets a row at a time, and its name once it is whole.

    Columns are `COLUMNS`, then `prob_<class>` for each class. `decision` is positive, negative or
    empty, `abstained` yes, no or empty; a row with an `error` has nothing else. Numbers are written
    so that reading gives the same float64.

    Where the block ends in an exception, what there is so far stays as `partial`, for a table
    predictions.csv in predictions.partial.csv.

    Attributes:
      partial: see above.
      num_rows: that were written.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        """Takes the table's path, in whose place the table comes at the end, and its classes."""
        self.path = path
        self.partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self.num_rows = 0
        self._classes = tuple(classes)
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def __enter__(self) -> Self:
        """Makes the file and writes the header; raises OSError where that fails."""
        # A file's name may hold bytes that are no UTF-8.
        self._file = self._temporary.open(
            "w", encoding="utf-8", errors="backslashreplace", newline=""
        )
        self.num_rows = 0
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow([*COLUMNS, *(f"prob_{name}" for name in self._classes)])
        return self

    def write(self, prediction: "Prediction") -> None:
        """Adds a row."""
        score = prediction.unknown_score
        texts = (
            prediction.image,
            prediction.label,
            prediction.description,
            _DECISIONS[prediction.decision],
            _YES_NO[prediction.abstained],
            "" if score is None else repr(score),
            prediction.error,
        )
        # Before Python 3.13 a lone carriage return isn't quoted, and would end the line.
        cells = [text.replace("\r", " ") for text in texts]
        numbers = [prediction.probabilities.get(name, "") for name in self._classes]
        self._writer.writerow([*cells, *numbers])
        self.num_rows += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Gives the file its name; the one of what is only a part where there was an exception."""
        whole = False
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
            whole = kind is None
        except OSError:  # a full disk; where it was met before, that is told already
            if kind is None:
                raise
        finally:
            if whole or self.num_rows:
                os.replace(self._temporary, self.path if whole else self.partial)
            else:
                self._temporary.unlink()


def check_path(path: Path) -> None:
    """Makes the table's folder; what is wrong with the name shows before anything is predicted.

    Raises:
      InputError: it is no name of a CSV, or that of a folder.
      OSError: the folder can't be made or written to.
    """
    if path.is_dir():
        raise InputError(
            f"--output={path} is a folder; give a file in it, as {path}/predictions.csv"
        )
    if path.suffix.lower() not in (".csv", ".txt"):
        raise InputError(f"--output={path} should end in .csv")
    path.parent.mkdir(parents=True, exist_ok=True)
