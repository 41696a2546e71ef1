"""The sections on what `prepare` found wrong: its report in, tables and plots out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skinjax.download import catalog
from skinjax.errors import InputError
from skinjax.explore import count_plots
from skinjax.explore.drawing import draw
from skinjax.html_page import Html, lines, note, paragraph, section, table

_LISTED = 3  # examples of rows that were left out
_MOST = 20  # duplicates and lesions that are listed


def left_out(report: Mapping[str, Any], num_images: int, out: Path) -> Html:
    """Rows and files that gave no image, by reason."""
    if not report["left_out"]:
        return section("Left out", [paragraph("No row or file was left out.")])
    reasons = sorted(report["left_out_by_reason"].items(), key=lambda item: (-item[1], item[0]))
    examples: dict[str, list[str]] = {}
    for row in report["left_out_rows"]:
        examples.setdefault(row["reason"].split(":")[0], []).append(row["image_id"])
    caption = f"Left out: {report['left_out']:,}; used: {num_images:,}"
    figure = count_plots.bars(
        [reason for reason, _ in reasons],
        [count for _, count in reasons],
        caption=caption,
        xlabel="rows or files",
    )
    rows = [
        [reason, f"{count:,}", _some(examples.get(reason, []), _LISTED)]
        for reason, count in reasons
    ]
    return section(
        "Left out",
        [
            draw(out, "left_out", figure),
            table(["Reason", "Rows or files", "For example"], rows),
            note("data_report.json of the prepared data set lists all of them."),
        ],
    )


def duplicates(report: Mapping[str, Any]) -> Html:
    """Images that are there more than once."""
    found = report["duplicates"]
    kinds = {
        "exact": "Exact copies (same content), groups",
        "near": "Near duplicates (perceptual hash), pairs",
        "under_several_labels": "Of these, under several labels",
    }
    rows = [[title, f"{len(found[kind]):,}"] for kind, title in kinds.items()]
    shown = [table(["Kind", "Found"], rows)]
    for kind, title in kinds.items():
        if found[kind]:
            listed = [[_text(ids)] for ids in found[kind][:_MOST]]
            rest = f"; {_MOST} of {len(found[kind]):,}" * (len(found[kind]) > _MOST)
            shown.append(table([f"{title}{rest}"], listed))
    return section("Duplicates", shown)


def lesions(report: Mapping[str, Any]) -> Html:
    """Lesions under several classes, of which one must be wrong."""
    found = report["lesions_with_several_classes"]
    if not found["count"]:
        shown = paragraph("Every lesion has one class.")
    else:
        ids = _some(found["lesion_ids"], _MOST)
        shown = paragraph(f"{found['count']:,} with images of several classes: {ids}.")
    return section("Lesions of several classes", [shown])


def settings(fields: Mapping[str, Any]) -> Html:
    """The settings that the data set was prepared with."""
    rows = [[f"config.data.{name}", json.dumps(fields[name])] for name in sorted(fields)]
    return section("Settings", [table(["Field", "Value"], rows)])


def attribution(dataset: str) -> Html:
    """Licence and authors of a published data set, as far as they are known."""
    try:
        # The binary labels are of the same images.
        return lines(catalog.dataset(dataset.removesuffix("_binary")).attribution())
    except InputError:
        return paragraph("Licence and authors are not known here; they are where the images are.")


def _text(value: Any) -> str:
    """Ids, or what else a list of the report holds, as one line."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_text(item)}" for key, item in value.items())
    return value if isinstance(value, str) else ", ".join(map(_text, value))


def _some(ids: Sequence[str], most: int) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most:,} more" if len(ids) > most else "")
