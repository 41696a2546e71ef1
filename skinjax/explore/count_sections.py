"""The sections on what the table says: columns in, tables and plots out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skinjax.explore import count_plots, counts
from skinjax.explore.counts import Columns
from skinjax.explore.drawing import draw
from skinjax.html_page import Html, note, paragraph, section, table

_MOST = 20  # values that are shown, the others together


def classes(columns: Columns, out: Path) -> Html:
    """How many images and lesions each class has."""
    image_SC = counts.by_split_and_class(columns)
    count_C = image_SC.sum(axis=0)
    lesions: list[set[str]] = [set() for _ in columns.classes]
    for label, lesion_id in zip(columns.label_N.tolist(), columns.text["lesion_id"], strict=True):
        lesions[label].add(lesion_id)
    total = max(int(count_C.sum()), 1)
    rows = [
        [name, f"{count:,}", f"{count / total:.1%}", f"{len(of_class):,}"]
        for name, count, of_class in zip(columns.classes, count_C, lesions, strict=True)
    ]
    present_C = count_C[count_C > 0]
    parts = [
        draw(
            out,
            "class_counts",
            count_plots.bars(columns.classes, count_C, caption="Images by class", xlabel="images"),
        ),
        table(["Class", "Images", "Share", "Lesions"], rows),
    ]
    if len(present_C) > 1:
        ratio = present_C.max() / present_C.min()
        parts.append(paragraph(f"The largest class has {ratio:.1f} times the smallest's images."))
    return section("Classes", parts)


def splits(columns: Columns, statistics: Mapping[str, Any], out: Path) -> Html:
    """How many images and lesions each split has, and how far its share is off."""
    names, splits = columns.classes, columns.splits
    image_SC = counts.by_split_and_class(columns)
    lesion_SC = counts.by_split_and_class(columns, columns.text["lesion_id"])
    per_split = {
        "Images": image_SC.sum(axis=1),
        **{
            title: counts.distinct_by_split(columns, columns.text[key])
            for title, key in (
                ("Lesions", "lesion_id"),
                ("Patients", "patient_id"),
                ("Groups", "group"),
            )
        },
    }
    shown = [
        table(
            ["Split", *per_split],
            [
                [name, *(f"{count_S[place]:,}" for count_S in per_split.values())]
                for place, name in enumerate(splits)
            ],
            caption="A group is what must not be torn apart: lesions of one patient, copies.",
        )
    ]
    for what, count_SC in (("images", image_SC), ("lesions", lesion_SC)):
        figure = count_plots.bars_by_split(
            splits, names, count_SC, caption=f"{what.capitalize()} by split and class", xlabel=what
        )
        shown.append(draw(out, f"split_{what}", figure))
        rows = [
            [name, *(f"{count:,}" for count in count_SC[:, place])]
            for place, name in enumerate(names)
        ]
        shown.append(table([f"Class ({what})", *splits], rows))
    return section("Splits", [*shown, *_fractions(columns, image_SC, statistics, out)])


def _fractions(
    columns: Columns, image_SC: np.ndarray, statistics: Mapping[str, Any], out: Path
) -> list[Html]:
    """What share of each class each split has, beside what was wanted, where that is known."""
    wanted = statistics["fractions_wanted"]
    rows = ["all", *columns.classes]
    count_KS = np.concatenate([image_SC.sum(axis=1)[None], image_SC.T])
    total_K = count_KS.sum(axis=1)
    share_KS = count_KS / np.maximum(total_K, 1)[:, None]
    share_KS[total_K == 0] = np.nan
    figure = count_plots.split_shares(
        columns.splits, rows, share_KS, wanted, caption="Share of each class's images by split"
    )
    head = ["Class", *columns.splits]
    lines: list[list[str]] = [
        [name, *(_percent(share) for share in share_S)]
        for name, share_S in zip(rows, share_KS, strict=True)
    ]
    if wanted:
        head += [f"{name}: off by" for name in columns.splits]
        for line, share_S in zip(lines, share_KS, strict=True):
            line += [
                _percent(share - want, "+") for share, want in zip(share_S, wanted, strict=True)
            ]
        asked = ", ".join(
            f"{want:.1%} {name}" for name, want in zip(columns.splits, wanted, strict=True)
        )
        text = f"Wanted were {asked}; groups are not torn apart to get closer."
    else:
        text = "No shares were wanted: the split was published, or is of a file or of folds."
    return [draw(out, "split_shares", figure), paragraph(text), table(head, lines)]


def ages(columns: Columns, out: Path) -> Html:
    """Ages by class."""
    known_N = np.isfinite(columns.age_N)
    if not known_N.any():
        return section("Ages", [paragraph("No image's age is known.")])
    age_C = [
        columns.age_N[known_N & (columns.label_N == label)] for label in range(len(columns.classes))
    ]
    figure = count_plots.ages(age_C, columns.classes, caption="Age, by image")
    rows = [
        ["all", *_age_cells(columns.age_N[known_N], len(known_N))],
        *(
            [name, *_age_cells(age_n, int(np.count_nonzero(columns.label_N == label)))]
            for label, (name, age_n) in enumerate(zip(columns.classes, age_C, strict=True))
        ),
    ]
    head = ["Class", "Known", "Not known", "Least", "Median", "Mean", "Largest"]
    return section("Ages", [draw(out, "ages", figure), table(head, rows)])


def _age_cells(age_n: np.ndarray, total: int) -> list[str]:
    counts = [f"{len(age_n):,}", f"{total - len(age_n):,}"]
    if not len(age_n):
        return [*counts, "", "", "", ""]
    figures = (age_n.min(), np.median(age_n), age_n.mean(), age_n.max())
    return [*counts, *(f"{figure:.1f}" for figure in figures)]


def values(columns: Columns, key: str, title: str, out: Path) -> Html:
    """How often each class has each value of a text column."""
    if not any(columns.text[key]):
        return section(title, [paragraph("Not known of any image.")])
    names, count_CV = counts.values_by_class(columns, columns.text[key], most=_MOST)
    if len(names) == 1:
        return section(title, [paragraph(f"{names[0]}, for all images.")])
    return section(
        title, _grid(columns, names, count_CV, f"{title}: share of each class", key, out)
    )


def missing(columns: Columns, out: Path) -> Html:
    """What is not known of how many images."""
    names, count_CK = counts.missing_by_class(columns)
    shown = _grid(columns, names, count_CK, "Not known: share of each class", "missing", out)
    text = "An image whose lesion is not known counts as a lesion of its own."
    return section("Missing values", [*shown, note(text)])


def _grid(
    columns: Columns, names: Sequence[str], count_CV: np.ndarray, title: str, key: str, out: Path
) -> list[Html]:
    rows = ["all", *columns.classes]
    total_C = np.bincount(columns.label_N, minlength=len(columns.classes))
    total_R = np.concatenate([[total_C.sum()], total_C])
    count_RV = np.concatenate([count_CV.sum(axis=0)[None], count_CV])
    figure = count_plots.shares(rows, names, count_RV, total_R, caption=title)
    lines = [
        [row, f"{total:,}", *(f"{count:,}" for count in count_V)]
        for row, total, count_V in zip(rows, total_R, count_RV, strict=True)
    ]
    return [draw(out, key, figure), table(["Class", "Images", *names], lines)]


def lesions(columns: Columns, out: Path) -> Html:
    """Images per lesion."""
    named = counts.images_per_lesion(columns)
    names, count_K = [name for name, _ in named], [count for _, count in named]
    figure = count_plots.bars(
        names, count_K, caption="Images per lesion", xlabel="lesions", ylabel="images"
    )
    rows = [[name, f"{count:,}"] for name, count in named]
    shown = [draw(out, "images_per_lesion", figure), table(["Images", "Lesions"], rows)]
    return section("Images per lesion", shown)


def _percent(share: float, sign: str = "-") -> str:
    return f"{share:{sign}.1%}" if np.isfinite(share) else ""
