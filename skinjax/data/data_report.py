"""What was found wrong with a data set, and what was done about it: `data_report.json`."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from skinjax.data import splits
from skinjax.data.records import LeftOut, Reading, Record


def counts(rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images by split and class, of rows with `split` and `label` (the class's name)."""
    seen = collections.Counter((row["split"], row["label"]) for row in rows)
    return {split: {name: seen[split, name] for name in classes} for split in splits.SPLITS}


def compute(
    data: ConfigDict,
    reading: Reading,
    rows: Sequence[Mapping[str, Any]],
    left_out: Sequence[LeftOut],
    records: Sequence[Record],
    copies: Sequence[Sequence[int]],
    near: Sequence[tuple[int, int]],
) -> dict[str, Any]:
    """Counts and lists all that a user should know of the data.

    Args:
      data: of the config.
      reading: what the reader found.
      rows: of the images that are used.
      left_out: everything that is not.
      records: all, as `copies` and `near` index them.
      copies: groups of records with the same content.
      near: pairs of records that look alike.
    """
    # A reason may name a file; the kind of reason is what comes before the first colon.
    reasons = collections.Counter(row.reason.split(":")[0] for row in left_out)
    by_class = collections.Counter(row["label"] for row in rows)
    # An image whose lesion isn't known has its own id for one, or that of the image it copies.
    ids = {record.image_id for record in records}
    lesions = _lesions_with_several_classes(reading.records)
    copy_of = {index: group[0] for group in copies for index in group}
    alike = [(i, j) for i, j in near if copy_of.get(i, i) != copy_of.get(j, j)]
    several = [group for group in (*copies, *alike) if len({records[i].label for i in group}) > 1]
    return {
        "dataset": data.dataset,
        "tables": [path.name for path in reading.tables],
        "images": len(rows),
        "images_by_class": {name: by_class[name] for name in reading.classes},
        "images_by_mode": dict(sorted(collections.Counter(row["mode"] for row in rows).items())),
        "without_lesion_id": sum(row["lesion_id"] in ids for row in rows),
        "left_out": len(left_out),
        "left_out_by_reason": dict(sorted(reasons.items())),
        "left_out_rows": [{"image_id": row.image_id, "reason": row.reason} for row in left_out],
        "lesions_with_several_classes": {"count": len(lesions), "lesion_ids": lesions},
        "duplicates": {
            "exact": [[records[i].image_id for i in group] for group in copies],
            "near": [[records[i].image_id for i in pair] for pair in alike],
            "under_several_labels": [
                {records[i].image_id: reading.classes[records[i].label] for i in group}
                for group in several
            ],
        },
    }


def log(report: Mapping[str, Any]) -> None:
    """Says in a line each what of a report a user should look into."""
    lesions, found = report["lesions_with_several_classes"], report["duplicates"]
    if lesions["count"]:
        logging.warning(
            "%d lesions have images of several classes, e.g. %s",
            lesions["count"], lesions["lesion_ids"][0],
        )  # fmt: skip
    for kind, what in (("exact", "groups of images with the same content"),
                       ("near", "pairs of images that look alike"),
                       ("under_several_labels", "of these are under several labels")):  # fmt: skip
        if found[kind]:
            example = found[kind][0]
            shown = (
                ", ".join(f"{k} as {v}" for k, v in example.items())
                if isinstance(example, dict)
                else ", ".join(example)
            )
            logging.warning("%d %s, e.g. %s", len(found[kind]), what, shown)


def _lesions_with_several_classes(records: Sequence[Record]) -> list[str]:
    """Ids of the lesions with more than one diagnosis, of which one must be wrong; sorted."""
    labels: dict[str, set[int]] = collections.defaultdict(set)
    for record in records:
        labels[record.lesion_id].add(record.label)
    return sorted(lesion_id for lesion_id, of_lesion in labels.items() if len(of_lesion) > 1)
