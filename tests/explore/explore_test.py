"""The page on a data set: right counts, whatever is missing, and nothing outside of it."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from skinjax import explore
from skinjax.config import default_config
from skinjax.data import builder

_VOID = {"meta", "img"}
_NASTY = '<script src="http://x.test/a.js">&"$x^^$'


@dataclasses.dataclass
class FakePrepared:
    """What `explore` reads of a `PreparedDataset`."""

    directory: Path
    store: Path
    classes: tuple[str, ...]
    rows: dict[str, list[dict[str, Any]]]
    image_size: int = 16
    fingerprint: str = "f" * 64
    settings: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"columns": {"age": _NASTY}}
    )

    def table(self, name):
        return self.rows[name]

    def source(self, names):
        return FakeSource([row for name in names for row in self.rows[name]], self)


class FakeSource:
    """Images of one colour, by the label; counts what is asked for."""

    def __init__(self, rows, prepared):
        self.rows, self.prepared, self.read = rows, prepared, []

    def __getitem__(self, index):
        return self.__getitems__([index])[0]

    def __getitems__(self, indices):
        self.read += indices
        size = self.prepared.image_size
        label = [self.prepared.classes.index(self.rows[i]["label"]) for i in indices]
        return [
            {"image": np.full((size, size, 3), (10 * c % 256, 100, 200), np.uint8), "label": c}
            for c in label
        ]


def fake(tmp_path, classes, rows, report=None, statistics=None):
    """A prepared data set of these rows of (split, row's changes)."""
    tables: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    for number, (split, changes) in enumerate(rows):
        row = {
            "image_id": f"image{number}", "lesion_id": f"lesion{number}", "patient_id": "",
            "group": f"lesion{number}", "split": split, "age": None, "sex": "", "site": "",
            "source": "", "height": 450, "width": 600, "mode": "RGB", "label": classes[0],
        }  # fmt: skip
        tables[split].append(row | changes)
    directory = tmp_path / "prepared"
    directory.mkdir()
    nothing_left_out = {"left_out": 0, "left_out_by_reason": {}, "left_out_rows": []}
    duplicates = {"exact": [], "near": [], "under_several_labels": []}
    several = {"count": 0, "lesion_ids": []}
    full = {
        "dataset": "ham10000",
        "duplicates": duplicates,
        "lesions_with_several_classes": several,
        **nothing_left_out,
        **(report or {}),
    }
    (directory / "data_report.json").write_text(json.dumps(full))
    statistics = {"fractions_wanted": [0.7, 0.15, 0.15]} if statistics is None else statistics
    (directory / "split.json").write_text(json.dumps(statistics))
    return FakePrepared(directory, directory, tuple(classes), tables)


class Page(HTMLParser):
    """Checks the nesting of the tags; collects texts, images, links and tables' rows."""

    def __init__(self, text):
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "img":
            self.images.append(dict(attrs)["src"])
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def check_page(path: Path) -> Page:
    """Well-formed, and complete without any other file."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert all(image.startswith("data:image/png;base64,") for image in page.images)
    for name, value in page.attributes:
        if name in ("href", "src"):
            assert value.startswith(("#", "data:image/png;base64,"))
    assert not page.tags & {"script", "link", "iframe", "object", "base", "form"}
    outside = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert "url(" not in outside
    assert "@import" not in outside
    assert "For research and education, not for diagnosis." in page.text
    return page


def pngs(directory: Path) -> dict[str, np.ndarray]:
    return {path.name: cv2.imread(str(path)) for path in directory.glob("*.png")}


def test_counts_of_a_small_data_set(tmp_path):
    a = {"label": "a", "age": 40.0, "sex": "female", "site": "back"}
    b = {"label": "b", "age": 60.0, "sex": "male", "width": 500, "mode": "L"}
    rows = [
        ("train", a | {"lesion_id": "l1"}),
        ("train", a | {"lesion_id": "l1", "sex": ""}),
        ("train", a),
        ("val", b),
        ("test", b | {"lesion_id": "image4", "age": None}),
    ]
    report = {
        "left_out": 5,
        "left_out_by_reason": {"no image file": 4, "does not decode": 1},
        "left_out_rows": [
            *({"image_id": f"gone{i}", "reason": "no image file"} for i in range(4)),
            {"image_id": "broken0", "reason": "does not decode: cut: short"},
        ],
        "lesions_with_several_classes": {"count": 1, "lesion_ids": ["l9"]},
        "duplicates": {
            "exact": [["image0", "image1", "image2"]],
            "near": [["image3", "image4"]],
            "under_several_labels": [],
        },
    }
    out = tmp_path / "out"
    prepared = fake(tmp_path, ["a", "b"], rows, report)
    page = check_page(explore.explore(prepared, out))
    assert ["a", "3", "60.0%", "2"] in page.rows  # images, share, lesions
    assert ["train", "3", "2", "0", "3"] in page.rows  # images, lesions, patients, groups
    assert ["all", "60.0%", "20.0%", "20.0%", "-10.0%", "+5.0%", "+5.0%"] in page.rows
    assert ["b", "0.0%", "50.0%", "50.0%", "-70.0%", "+35.0%", "+35.0%"] in page.rows
    assert ["600 x 450", "3"] in page.rows
    assert ["RGB", "3"] in page.rows
    assert ["a", "3", "0", "40.0", "40.0", "40.0", "40.0"] in page.rows
    assert ["b", "1", "1", "60.0", "60.0", "60.0", "60.0"] in page.rows
    assert ["a", "3", "2", "0", "1"] in page.rows  # images, female, male, not known
    assert ["b", "2", "1", "0", "2", "1", "2"] in page.rows  # images; no age, sex, site...
    assert ["2", "1"] in page.rows  # images, lesions with so many
    assert ["does not decode", "1", "broken0"] in page.rows
    assert ["no image file", "4", "gone0, gone1, gone2 and 1 more"] in page.rows
    assert ["image0, image1, image2"] in page.rows
    assert ["image3, image4"] in page.rows
    assert "CC BY-NC 4.0" in page.text
    assert "1 with images of several classes: l9." in page.text
    # The colour of class b is (10, 100, 200) everywhere.
    assert ["b", "2", "10.0", "100.0", "200.0", "0.0", "0.0", "0.0"] in page.rows


def test_every_plot_is_in_the_page_and_beside_it(tmp_path):
    rows = [("train", {"age": 40.0, "sex": "f"}), ("train", {"width": 300}), ("val", {})]
    prepared = fake(tmp_path, ["a"], rows)
    sample = prepared.store / "samples" / "image0.png"
    sample.parent.mkdir()
    cv2.imwrite(str(sample), np.arange(32 * 48 * 3, dtype=np.uint8).reshape(32, 48, 3))
    page = check_page(explore.explore(prepared, tmp_path / "out"))
    plots = pngs(tmp_path / "out")
    assert set(plots) == {
        "class_counts.png", "split_images.png", "split_lesions.png", "split_shares.png",
        "samples_00.png", "image_sizes.png", "image_sizes_scatter.png", "colour_means.png",
        "colour_histograms.png", "ages.png", "sex.png", "missing.png", "images_per_lesion.png",
    }  # fmt: skip
    sheets = pngs(tmp_path / "out" / "preprocessing")
    assert set(sheets) == {
        "crop_border.png", "remove_hair.png", "color_constancy.png", "clahe.png", "resize.png",
    }  # fmt: skip
    assert all(plot is not None for plot in (*plots.values(), *sheets.values()))
    assert len(set(page.images)) == len(page.images) == len(plots) + len(sheets)


def test_a_single_image_of_which_nothing_is_known(tmp_path):
    prepared = fake(tmp_path, ["a"], [("train", {})], statistics={"fractions_wanted": None})
    page = check_page(explore.explore(prepared, tmp_path / "out"))
    assert "No image's age is known." in page.text
    assert page.text.count("Not known of any image.") == 3
    assert "No row or file was left out." in page.text
    assert "No shares were wanted" in page.text


def test_a_class_without_images_is_there(tmp_path):
    rows = [("train", {"age": 5.0}), ("test", {})]
    page = check_page(explore.explore(fake(tmp_path, ["a", "none"], rows), tmp_path / "out"))
    assert ["none", "0", "0.0%", "0"] in page.rows
    assert "none: no image." in page.text
    assert "nan" not in page.text


def test_names_are_escaped_and_are_no_mathematics(tmp_path):
    changes = {
        "label": _NASTY, "image_id": _NASTY, "sex": _NASTY, "site": _NASTY + "\udc80",
        "source": _NASTY, "mode": _NASTY,
    }  # fmt: skip
    report = {
        "dataset": _NASTY,
        "left_out": 1,
        "left_out_by_reason": {_NASTY: 1},
        "left_out_rows": [{"image_id": _NASTY, "reason": _NASTY}],
        "lesions_with_several_classes": {"count": 1, "lesion_ids": [_NASTY]},
        "duplicates": {
            "exact": [[_NASTY, _NASTY]],
            "near": [],
            "under_several_labels": [{"image_ids": [_NASTY]}],
        },
    }
    rows = [("train", changes), ("train", {"label": "皮膚"})]
    prepared = fake(tmp_path, [_NASTY, "皮膚"], rows, report)
    page = check_page(explore.explore(prepared, tmp_path / "out"))
    assert page.text.count(_NASTY) > 10
    assert "皮膚" in page.text
    assert "not known here" in page.text  # the licence of a data set of the user's own


def test_thirty_classes_with_long_names(tmp_path):
    classes = [f"pigmented benign keratosis of kind {number}" for number in range(30)]
    rows = [("train", {"label": name}) for name in classes]
    page = check_page(explore.explore(fake(tmp_path, classes, rows), tmp_path / "out"))
    assert [classes[29], "1", "3.3%", "1"] in page.rows
    plots = pngs(tmp_path / "out")
    assert "samples_29.png" in plots
    assert all(max(plot.shape) < 4000 for plot in plots.values())


def test_reads_a_bounded_number_of_images(tmp_path, monkeypatch):
    rows = [("train", {"label": "ab"[number % 2]}) for number in range(1000)]
    prepared = fake(tmp_path, ["a", "b"], rows)
    source = prepared.source(("train",))
    monkeypatch.setattr(prepared, "source", lambda names: source)
    page = check_page(explore.explore(prepared, tmp_path / "out"))
    assert len(source.read) == len(set(source.read)) == 400
    assert "a seeded sample of 400 of 1,000 images" in page.text


def test_the_same_data_gives_the_same_files(tmp_path):
    prepared = fake(tmp_path, ["a"], [("train", {}), ("train", {})])
    first = explore.explore(prepared, tmp_path / "one").read_bytes()
    assert explore.explore(prepared, tmp_path / "two").read_bytes() == first


def test_a_data_set_as_prepared(config, tmp_path):
    prepared = builder.prepare(config)
    page = check_page(explore.explore(prepared, tmp_path / "out"))
    total = sum(sum(counts) for counts in prepared.counts.values())
    assert ["Images", f"{total:,}"] in page.rows
    assert ["32 x 32", f"{total:,}"] in page.rows
    assert ["config.data.image_size", "16"] in page.rows
    out = tmp_path / "out"
    assert len(page.images) == len(pngs(out)) + len(pngs(out / "preprocessing")) > 15


def test_augmented_page(tmp_path):
    rows = [
        ("train", {"label": "ab"[number > 0], "image_id": f"<{number}>"}) for number in range(4)
    ]
    prepared = fake(tmp_path, ["a", "b"], [*rows, ("test", {})])
    config = default_config()
    config.normalize.update(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    config.augment.hue = 0.0
    page = check_page(explore.augmented(config, prepared, tmp_path / "out"))
    assert len(page.images) == 1
    assert set(pngs(tmp_path / "out")) == {"augmented.png"}
    assert ["config.augment.hue", "0", "off"] in page.rows
    assert ["config.augment.crop_scale", "0.92, 1", ""] in page.rows
