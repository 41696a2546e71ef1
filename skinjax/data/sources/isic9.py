"""The 9-class folder data set: Train/<class>/*.jpg and Test/<class>/*.jpg, named by ISIC's ids."""

import collections
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import logging

from skinjax.config import nearest
from skinjax.data import labels
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.sources import class_folders, fields, isic2019, table_files
from skinjax.data.sources.folders import Folder, bare, split_ending, split_raw_dir, walk
from skinjax.errors import InputError


@dataclass(frozen=True, order=True, slots=True)
class _Image:
    """One file; sorts by class, then by where it lies."""

    class_name: str
    split: str
    inside: tuple[str, ...]  # folders below the class's, and the file's name
    path: Path

    @property
    def stem(self) -> str:
        return split_ending(self.path.name)[0]


def read(raw_dir: str | os.PathLike[str]) -> Reading:
    """Reads the data set, with lesions, ages, sexes and sites from ISIC 2019's table if it's there.

    Kaggle `nodoubttome/skin-cancer9-classesisic`. Records have their published split. One id may
    stand in several class folders, and in Train and Test: in the order of the classes' names the
    first copy has the id, the others `<id>.2`, `<id>.3`..., and all have the lesion of the first,
    since they are one image.

    Raises:
      InputError: no folder, no Train or Test folder in it, no image, a class folder with an unknown
        name, or a table of ISIC 2019 that is at fault (see `isic2019.read_metadata`).
    """
    roots = split_raw_dir(raw_dir)
    folders = walk(roots)
    images, strays = _list_images(folders, _find_splits(folders))
    fields.check_any_found(
        len(images), [], roots, "unpack the data set's Train and Test folders there"
    )
    for image in images:
        class_folders.check_printable(image.path.name, image.path)
    metadata, used = _read_metadata(folders, images)
    _warn_of_copies(images)
    stems = {image.stem for image in images}
    taken: set[str] = set()
    lesions: dict[str, str] = {}
    records = []
    for image in sorted(images):
        image_id = class_folders.next_free(image.stem, taken, stems)
        taken.add(image_id)
        known = metadata.get(bare(image.stem), isic2019.Metadata())
        records.append(
            Record(
                image_id=image_id,
                path=image.path,
                label=labels.ISIC9_CLASSES.index(image.class_name),
                lesion_id=lesions.setdefault(bare(image.stem), known.lesion_id or image_id),
                age=known.age,
                sex=known.sex,
                site=known.site,
                source="ISIC9",
                split=image.split,
            )
        )
    left_out = tuple(LeftOut(split_ending(name)[0], "in no class folder") for name in strays)
    return Reading(tuple(records), left_out, labels.ISIC9_CLASSES, used)


def _find_splits(folders: Sequence[Folder]) -> list[tuple[str, Folder]]:
    """The folder of each split that there is: the first by folder given, depth and name."""
    found: dict[str, list[Folder]] = collections.defaultdict(list)
    for folder in sorted(folders, key=lambda folder: (folder.root, len(folder.parts))):
        name = folder.parts[-1].lower() if folder.parts else ""
        within = any(part.lower() in ("train", "test") for part in folder.parts[:-1])
        if name in ("train", "test") and not within:
            found[name].append(folder)
    if not found:
        raise InputError(
            f"no Train or Test folder in {', '.join(str(f.path) for f in folders if not f.parts)},"
            " nor in a folder inside: set data.raw_dir to the folder that holds them"
        )
    for name, several in found.items():
        if len(several) > 1:
            logging.warning(
                "%d folders are called %s: read is %s, and not %s",
                len(several), name, several[0].path,
                ", ".join(str(folder.path) for folder in several[1:]),
            )  # fmt: skip
    return [(name, several[0]) for name, several in found.items()]


def _list_images(
    folders: Sequence[Folder], splits: Sequence[tuple[str, Folder]]
) -> tuple[list[_Image], list[str]]:
    """The images, and the names of those that lie in a split's folder but in no class's."""
    images: list[_Image] = []
    strays: list[str] = []
    for split, top in splits:
        strays += top.images()
        depth = len(top.parts)
        for folder in folders:
            if folder.root != top.root or folder.parts[:depth] != top.parts or folder == top:
                continue
            class_name = _class_name(folder.parts[depth], top.path)
            images += [
                _Image(class_name, split, (*folder.parts[depth + 1 :], name), folder.path / name)
                for name in folder.images()
            ]
    return images, strays


def _class_name(folder: str, parent: Path) -> str:
    name = " ".join(folder.replace("_", " ").lower().split())
    if name not in labels.ISIC9_CLASSES:
        raise InputError(
            f"{parent} has a folder {fields.short(folder)}, which is no class: expected"
            f" {', '.join(labels.ISIC9_CLASSES)}{nearest(name, labels.ISIC9_CLASSES)}"
        )
    return name


def _read_metadata(
    folders: Sequence[Folder], images: Sequence[_Image]
) -> tuple[dict[str, isic2019.Metadata], tuple[Path, ...]]:
    """ISIC 2019's metadata by id without `_downsampled`, and the table; none if it isn't there."""
    found = table_files.find_all(folders, isic2019.METADATA)
    if not found:
        logging.warning(
            "no %s under data.raw_dir: which images show one lesion is not known, so each is taken"
            " for a lesion of its own; add the table's folder to data.raw_dir",
            isic2019.METADATA,
        )
        return {}, ()
    published = isic2019.read_metadata(found[0])
    metadata = {bare(image_id): row for image_id, row in published.items()}
    without = sorted({image.stem for image in images if bare(image.stem) not in metadata})
    if without:
        logging.warning(
            "%d image ids have no row in %s, e.g. %s: each is taken for a lesion of its own",
            len(without), found[0], without[0],
        )  # fmt: skip
    return metadata, (found[0],)


def _warn_of_copies(images: Sequence[_Image]) -> None:
    copies: dict[str, list[_Image]] = collections.defaultdict(list)
    for image in sorted(images):
        copies[bare(image.stem)].append(image)
    several = {stem: found for stem, found in copies.items() if len(found) > 1}
    if several:
        stem = min(several)
        logging.warning(
            "%d image ids stand in several folders, e.g. %s in %s: their copies are kept as one"
            " lesion",
            len(several), stem,
            " and ".join(f"{image.split}/{image.class_name}" for image in several[stem]),
        )  # fmt: skip
