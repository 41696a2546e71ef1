"""A look at a prepared data set: one HTML page with all plots inside, and the plots as PNGs."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from skinjax import html_page, logs
from skinjax.data import image_store
from skinjax.data.prepared import PreparedDataset
from skinjax.data.splits import SPLITS
from skinjax.explore import count_sections, image_sections, report_sections
from skinjax.explore.counts import read_columns
from skinjax.explore.sample import draw_sample, read_sample
from skinjax.plots import DISCLAIMER

# What bounds memory and the page's size, whatever the number of images and of classes.
_MOST_READ = 3000
_MOST_TILES = 240
_TILE = 128  # pixels
_SEED = 0


def explore(prepared: PreparedDataset, out: Path) -> Path:
    """Writes `explore.html`, which needs no other file, and its plots as PNGs, to `out`.

    Counts are of all images; colours and sample pictures are of a bounded, seeded sample.

    Returns:
      The page's path.

    Raises:
      OSError: `out` cannot be written.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("samples_*.png"):  # of a data set with more classes
        old.unlink()
    columns = read_columns(((name, prepared.table(name)) for name in SPLITS), prepared.classes)
    report = _read_json(prepared.directory / "data_report.json")
    statistics = _read_json(prepared.directory / "split.json")
    num_classes = len(prepared.classes)
    index_C = draw_sample(
        columns.label_N,
        num_classes,
        per_class=min(200, max(20, _MOST_READ // num_classes)),
        seed=_SEED,
    )
    sample = read_sample(
        prepared.source(SPLITS),
        index_C,
        image_size=prepared.image_size,
        num_tiles=min(12, max(4, _MOST_TILES // num_classes)),
        tile=_TILE,
    )
    body = [
        *_head(prepared, report, len(columns.label_N)),
        count_sections.classes(columns, out),
        count_sections.splits(columns, statistics, out),
        image_sections.samples(columns, sample, out),
        image_sections.image_sizes(columns, out),
        image_sections.colours(columns, sample, out),
        count_sections.ages(columns, out),
        count_sections.values(columns, "sex", "Sex", out),
        count_sections.values(columns, "site", "Body site", out),
        count_sections.values(columns, "source", "Source", out),
        count_sections.missing(columns, out),
        count_sections.lesions(columns, out),
        report_sections.lesions(report),
        report_sections.left_out(report, len(columns.label_N), out),
        report_sections.duplicates(report),
        report_sections.settings(prepared.settings),
    ]
    originals = image_store.samples(prepared.store)
    if originals:
        body.append(image_sections.preprocessing(originals, prepared.image_size, out))
    path = out / "explore.html"
    logs.write_text(path, html_page.page(f"Data set {report['dataset']}", body))
    return path


def _head(
    prepared: PreparedDataset, report: dict[str, Any], num_images: int
) -> list[html_page.Html]:
    size = prepared.image_size
    facts = [
        ["Images", f"{num_images:,}"],
        ["Classes", f"{len(prepared.classes)}"],
        ["Rows or files left out", f"{report['left_out']:,}"],
        ["Size as prepared", f"{size} x {size} pixels"],
        ["Fingerprint", prepared.fingerprint],
    ]
    return [
        html_page.paragraph(DISCLAIMER),
        html_page.table(["Data set", report["dataset"]], facts),
        report_sections.attribution(report["dataset"]),
    ]


def _read_json(path: Path) -> dict[str, Any]:
    """One of the files beside the tables, which `open_prepared` has found whole."""
    return json.loads(path.read_text(encoding="utf-8"))


def augmented(config: ConfigDict, prepared: PreparedDataset, out: Path) -> Path:
    """Writes `augmented.html` and `augmented.png`: training images as the train step sees them.

    Each of a few training images goes through `config.augment` and `config.normalize`, which is
    then undone, at a fixed place in the batch with the keys of the first steps.

    Returns:
      The page's path.

    Raises:
      InputError: `config.augment` is out of range, or the data set has no training image.
      OSError: `out` cannot be written.
    """
    from skinjax.explore import augmentation  # imports JAX, which nothing else here needs

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    return augmentation.write(config, prepared, out)
