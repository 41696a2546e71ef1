"""The page on what a model gets wrong: confused classes, confidence, single images with maps."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skinjax import html_page, logs, misclassified
from skinjax import workdir as workdir_lib
from skinjax.data import labels
from skinjax.errors import InputError
from skinjax.explain import cases
from skinjax.html_page import Html
from skinjax.plots import DISCLAIMER, explanation
from skinjax.plots import misclassified as figures
from skinjax.predictions import read_predictions

PAGE = "errors.html"
_PAIRS = 20
_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class _Table:
    """A table of predictions, read."""

    rows: list[dict[str, Any]]
    probability_NC: np.ndarray
    label_N: np.ndarray
    classes: tuple[str, ...]
    checkpoint: str
    step: int | None


def write(
    workdir: Path | str,
    split: str = "test",
    *,
    num: int = 12,
    raw_dir: str | None = None,
    prepared_dir: str | None = None,
    data: str | None = None,
) -> Path:
    """Writes `errors.html`, its figures as PNG, and `errors.json` into `evaluation/<split>/errors`.

    All but the images and their maps comes from `predictions_<split>.csv` alone; what can't be had
    of those is "not available", with the reason.

    Args:
      workdir: with an evaluation in it.
      split: the name of the evaluation's folder.
      num: cases of each of the two kinds; 0 is none.
      raw_dir, prepared_dir, data: in place of the run's, where the data has moved.

    Returns:
      The path of the page.

    Raises:
      InputError: there is no such evaluation, its table is broken or empty, or `num` is negative.
    """
    if num < 0:
        raise InputError(f"--num={num} is negative; give 0 or more")
    if Path(split).name != split:
        raise InputError(f"--split={split} is no name of an evaluation; give for example test")
    directory = workdir_lib.evaluation_dir(Path(workdir), split)
    table = _read(directory, split)
    values = (table.probability_NC, table.label_N)
    kinds = {
        "error": misclassified.confident_errors(*values, num),
        "hit": misclassified.uncertain_hits(*values, num),
    }
    index_K = np.concatenate(list(kinds.values()))
    class_K2 = _two_classes(table.probability_NC[index_K], table.label_N[index_K])
    views = cases.look(
        Path(workdir),
        table.step,
        [table.rows[index] for index in index_K],
        table.probability_NC[index_K],
        table.classes,
        class_K2,
        moved={"raw_dir": raw_dir, "prepared_dir": prepared_dir, "directory": data},
    )
    out = directory / "errors"
    out.mkdir(exist_ok=True)
    for old in out.glob("*.png"):  # of an earlier evaluation, whose errors were others
        old.unlink()
    drawn = [
        _case(out, table, views, kind, number, int(index), place, class_K2[place])
        for place, (kind, number, index) in enumerate(
            (kind, number, index)
            for kind, indices in kinds.items()
            for number, index in enumerate(indices, start=1)
        )
    ]
    errors, hits = drawn[: len(kinds["error"])], drawn[len(kinds["error"]) :]
    histogram = misclassified.confidence_histogram(*values)
    pairs = misclassified.confusion_pairs(*values, table.classes)
    _write_json(out, table, pairs, kinds)
    body = [
        *_summary(table, split, views),
        html_page.section("Confidence", _confidence(out, histogram, table, split)),
        html_page.section("Confused classes", _pairs(pairs, table)),
        html_page.section("The most confident errors", _cases(errors, "no image is misclassified")),
        html_page.section("The least confident hits", _cases(hits, "no image is a hit")),
    ]
    title = f"What is misclassified: {split} split of {Path(workdir).resolve().name}"
    logs.write_text(out / PAGE, html_page.page(title, body))
    return out / PAGE


def _read(directory: Path, split: str) -> _Table:
    path = directory / f"predictions_{split}.csv"
    rows, probability_NC, label_N, classes = read_predictions(path)
    if not rows:
        raise InputError(f"{path} has no rows, so there is nothing to show")
    metrics = _metrics(directory / "metrics.json")
    words = metrics.get("checkpoint")
    checkpoint = words if isinstance(words, str) else "not stated"
    return _Table(rows, probability_NC, label_N, classes, checkpoint, cases.step_of(metrics))


def _metrics(path: Path) -> dict[str, Any]:
    """What says which checkpoint predicted; empty where it can't be read."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _two_classes(probability_KC: np.ndarray, label_K: np.ndarray) -> np.ndarray:
    """The predicted class; and the true one, or for a hit the second in line: int64 (K, 2)."""
    predicted_K = probability_KC.argmax(axis=1)
    rest_KC = np.where(
        np.arange(probability_KC.shape[1]) == predicted_K[:, None], -1, probability_KC
    )
    second_K = np.where(label_K == predicted_K, rest_KC.argmax(axis=1), label_K)
    return np.stack([predicted_K, second_K], axis=1)


def _summary(table: _Table, split: str, views: cases.Views) -> list[Html]:
    hits = int(misclassified.is_hit(table.probability_NC, table.label_N).sum())
    count = len(table.rows)
    parts = [
        html_page.note(DISCLAIMER),
        html_page.paragraph(
            f"{count - hits} of {count} images of the {split} split are misclassified "
            f"({(count - hits) / count:.1%}). Checkpoint: {table.checkpoint}. Probabilities are as "
            "predicted, before any calibration."
        ),
    ]
    if views.resolution:
        rows, columns = views.resolution
        parts.append(
            html_page.note(
                f"Maps are Grad-CAM, {rows} x {columns} values of {views.stage} enlarged to the "
                "image: regions that speak for a class, each scaled by its own largest value. They "
                "show what the network looked at, which is no proof of why it decided as it did."
            )
        )
    if views.why:
        parts.append(html_page.note(f"Some images or maps are not available: {views.why}"))
    if views.difference is not None and views.difference > 0.01:
        parts.append(
            html_page.note(
                f"The table's probabilities differ by up to {views.difference:.2f} from those of "
                "the network on these images alone (test-time augmentation, an ensemble, or other "
                "data): the maps are of the network alone."
            )
        )
    return parts


def _confidence(
    out: Path, histogram: misclassified.Histogram, table: _Table, split: str
) -> list[Html]:
    caption = f"Hits and misses, {split} split\n{table.checkpoint}"
    figure = figures.confidence_histogram(histogram, caption=caption)
    return [
        _image(out, "confidence.png", figure, "Histograms of the confidence of hits and misses"),
        html_page.note(
            "Confidence is the probability of the predicted class. A model as often right as it "
            "says has a share of misses of 1 - confidence; where the bars reach above the dotted "
            "line, it is too sure of itself."
        ),
    ]


def _pairs(pairs: Sequence[misclassified.Pair], table: _Table) -> list[Html]:
    if not pairs:
        return [html_page.paragraph("No image is misclassified.")]
    # Few columns, for a phone.
    head = ("pair", "images", "of true", "of errors")
    rows = [
        (f"{one.true} as {one.predicted}", one.count, f"{one.share_of_class:.1%}",
         f"{one.share_of_errors:.1%}")
        for one in pairs[:_PAIRS]
    ]  # fmt: skip
    shown = (
        f"The {len(rows)} most frequent of {len(pairs)} pairs: images of the first class that were "
        "taken for the second, their share of the first class, and of all errors."
    )
    names = [(name, labels.description(name, table.classes)) for name in table.classes]
    told = "; ".join(f"{name}: {text}" for name, text in names if name != text)
    return [html_page.table(head, rows, caption=shown), *([html_page.note(told)] if told else [])]


def _case(
    out: Path,
    table: _Table,
    views: cases.Views,
    kind: str,
    number: int,
    index: int,
    place: int,
    class_2: np.ndarray,
) -> Html:
    row, classes = table.rows[index], table.classes
    first, second = (int(one) for one in class_2)
    probability_C = table.probability_NC[index]
    true = classes[int(table.label_N[index])]
    maps = views.maps[place]
    role = "true" if kind == "error" else "second in line"
    titles = (
        f"speaks for {classes[first]} (predicted, {probability_C[first]:.3f})",
        f"speaks for {classes[second]} ({role}, {probability_C[second]:.3f})",
    )
    figure = figures.case(
        caption=f"{row['image_id']}\ntrue: {true}, predicted: {classes[first]}",
        image_HWC=views.image[place],
        maps=list(zip(titles, maps or (None, None), strict=True)),
        why=views.why,
        probability_C=probability_C,
        classes=classes,
        label=int(table.label_N[index]),
    )
    plain_id = re.sub(r"[^A-Za-z0-9_.-]", "_", str(row["image_id"]))[:80]
    said = f"predicted {classes[first]} ({probability_C[first]:.3f}), true {true}"
    said += f" ({probability_C[int(table.label_N[index])]:.3f})" * (kind == "error")
    caption = f"{number}. {said}; {_words(row)}"
    alt = f"{row['image_id']}: true {true}, predicted {classes[first]}"
    return _image(out, f"{kind}_{number:02d}_{plain_id}.png", figure, alt, caption)


def _words(row: Mapping[str, Any]) -> str:
    """What the table knows of an image beside its probabilities."""
    known = {
        "image": row["image_id"],
        "lesion": row["lesion_id"],
        "age": "" if row["age"] is None else f"{row['age']:g}",
        "sex": row["sex"],
        "site": row["site"],
        "source": row["source"],
    }
    return ", ".join(f"{name} {value or 'not known'}" for name, value in known.items())


def _cases(drawn: Sequence[Html], none: str) -> Sequence[Html]:
    return drawn or [html_page.paragraph(f"None: {none}, or none was asked for.")]


def _image(out: Path, name: str, figure: Any, alt: str, caption: str = "") -> Html:
    png = explanation.png(figure)
    logs.write_bytes(out / name, png)
    return html_page.image(png, alt=alt, caption=caption)


def _write_json(
    out: Path,
    table: _Table,
    pairs: Sequence[misclassified.Pair],
    kinds: Mapping[str, np.ndarray],
) -> None:
    def case(index: int) -> dict[str, Any]:
        probability_C = table.probability_NC[index]
        top = int(probability_C.argmax())
        return {
            "image_id": table.rows[index]["image_id"],
            "true": table.classes[int(table.label_N[index])],
            "predicted": table.classes[top],
            "confidence": float(probability_C[top]),
        }

    values = {
        "disclaimer": DISCLAIMER,
        "checkpoint": table.checkpoint,
        "num_examples": len(table.rows),
        "confusion_pairs": [asdict(pair) for pair in pairs],
        "most_confident_errors": [case(int(index)) for index in kinds["error"]],
        "least_confident_hits": [case(int(index)) for index in kinds["hit"]],
    }
    logs.write_json(out / "errors.json", values)
