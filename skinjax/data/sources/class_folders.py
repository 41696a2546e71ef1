"""Any folder of class folders, with or without folders of splits around them."""

import collections
import os
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from absl import logging

from skinjax.config import nearest
from skinjax.data.records import LeftOut, Reading, Record
from skinjax.data.sources import fields
from skinjax.data.sources.fields import SPLITS
from skinjax.data.sources.folders import Folder, split_ending, split_raw_dir, walk
from skinjax.errors import InputError


@dataclass(frozen=True, slots=True)
class _Image:
    split: str
    class_name: str
    parts: tuple[str, ...]  # folders from the one read, and the file's name
    path: Path

    @property
    def inside(self) -> tuple[str, ...]:
        """Folders below the class's, and the file's name."""
        return self.parts[2:] if self.split else self.parts[1:]


def read(raw_dir: str | os.PathLike[str], classes: Sequence[str]) -> Reading:
    """Reads the images in each class's folder and the folders inside it; its name is the class.

    The class folders may lie in folders for the splits (train or training; val, valid, validate or
    validation; test or testing; in any case), and all of these in folders around, each the only
    one. An image's id is its file name without ending. Where files share one, each of them has its
    path instead, joined with `_`: `benign/patient1/IMG_1.jpg` is `benign_patient1_IMG_1`; and where
    paths do too, all but the first have `.2`, `.3`... at the end. Each image is taken for
    a lesion of its own: data sets with lesions or patients need `csv`. `classes` gives their order;
    empty is all that there are, alphabetically.

    Raises:
      InputError: no folder; fewer than two classes; a class folder that is not in `classes`, or
        the reverse; class names that differ only in case; folders of splits beside others; or
        folders that are likely no classes, since below them are the same folders.
    """
    roots = split_raw_dir(raw_dir)
    folders = _unwrap(walk(roots), classes)
    images: list[_Image] = []
    left_out: list[LeftOut] = []
    for number, root in enumerate(roots):
        own = [folder for folder in folders if folder.root == number]
        depth = 1 if _has_splits(own, root) else 0
        for folder in own:
            if len(folder.parts) <= depth:
                left_out += [
                    LeftOut(split_ending(name)[0], "in no class folder") for name in folder.images()
                ]
                continue
            split = SPLITS[folder.parts[0].lower()] if depth else ""
            images += [
                _Image(split, folder.parts[depth], (*folder.parts, name), folder.path / name)
                for name in folder.images()
            ]
        _warn_of_empty_folders(own, depth, root)
    _check_splits(images)
    _check_nesting(images, classes, roots)
    classes = _check_classes({image.class_name for image in images}, classes, roots)
    label_of = {name: label for label, name in enumerate(classes)}
    records = [
        Record(
            image_id=image_id,
            path=image.path,
            label=label_of[image.class_name],
            lesion_id=image_id,
            age=None,
            sex="",
            site="",
            source="folder",
            split=image.split,
        )
        for image, image_id in zip(images, _image_ids(images), strict=True)
    ]
    return Reading(tuple(records), tuple(left_out), tuple(classes), ())


def check_class_names(names: Collection[str], wanted: Sequence[str], where: str) -> tuple[str, ...]:
    """The classes in the order `wanted`, or if that is empty alphabetically.

    Raises:
      InputError: a name that is not wanted; one wanted twice; two that differ only in case; or
        fewer than two classes.
    """
    twice = [name for name, count in collections.Counter(wanted).items() if count > 1]
    if twice:
        raise InputError(f"data.classes has {twice[0]!r} more than once: expected it once")
    unknown = sorted(set(names) - set(wanted)) if wanted else []
    if unknown:
        raise InputError(
            f"{where} has class {fields.short(unknown[0])}, which is not in data.classes:"
            f" expected {', '.join(wanted)}{nearest(unknown[0], wanted)}"
        )
    by_folded: dict[str, str] = {}
    for name in sorted({*names, *wanted}):
        other = by_folded.setdefault(name.casefold(), name)
        if other != name:
            raise InputError(
                f"{where} has classes {fields.short(other)} and {fields.short(name)}, which differ"
                " only in case: give each class one spelling"
            )
    classes = tuple(wanted) or tuple(sorted(names))
    if len(classes) < 2:
        raise InputError(
            f"{where} has {len(classes)} class{'' if len(classes) == 1 else 'es'}"
            f" ({', '.join(map(fields.short, classes)) or 'no image'}): expected two or more"
        )
    return classes


def check_printable(name: str, path: Path) -> None:
    """Refuses a name that no table could hold.

    Raises:
      InputError: `name` has line breaks, control characters or bytes that are no UTF-8.
    """
    if not name.isprintable():
        raise InputError(f"{str(path)!r} has a name with signs that can't be printed: rename it")


def next_free(name: str, taken: Container[str], reserved: Container[str]) -> str:
    """`name` if it isn't taken; else the first of `<name>.2`, `.3`... that nobody has or needs."""
    if name not in taken:
        return name
    number = 2
    while f"{name}.{number}" in taken or f"{name}.{number}" in reserved:
        number += 1
    return f"{name}.{number}"


def unique_ids(parts_N: Sequence[tuple[str, ...]]) -> list[str]:
    """Ids of files given by folders and name without ending: names if unique, else joined paths.

    See `read`.
    """
    counts = collections.Counter(parts[-1] for parts in parts_N)
    taken: set[str] = set()
    # A joined path must not take the id that another file has by its name.
    reserved = {stem for stem, count in counts.items() if count == 1}
    ids = []
    for parts in parts_N:
        name = parts[-1]
        if counts[name] > 1:
            name = "_".join(parts)
            if name in reserved:
                taken.add(name)
            name = next_free(name, taken, reserved)
        taken.add(name)
        ids.append(name)
    return ids


def _unwrap(folders: Sequence[Folder], wanted: Sequence[str]) -> list[Folder]:
    """The folders seen from inside those that hold all images, if there are such.

    In several folders given they must share a name: else each may be a class.
    """
    folders = list(folders)
    while True:
        with_images = [folder for folder in folders if folder.images()]
        tops = {folder.parts[:1] for folder in with_images}
        top = min(tops, default=())
        direct = any(len(folder.parts) <= 1 for folder in with_images)
        if len(tops) != 1 or direct or top[0].lower() in SPLITS or top[0] in wanted:
            return folders
        folders = [
            replace(folder, parts=folder.parts[1:]) for folder in folders if folder.parts[:1] == top
        ]
        logging.info(
            "all images are in folder %s: its folders are read instead", fields.short(top[0])
        )


def _has_splits(folders: Sequence[Folder], root: Path) -> bool:
    """Whether `root` holds folders of splits, with the class folders inside."""
    with_images = [folder for folder in folders if folder.parts and folder.images()]
    tops = {folder.parts[0] for folder in with_images}
    direct = {folder.parts[0] for folder in with_images if len(folder.parts) == 1}
    splits = {name for name in tops - direct if name.lower() in SPLITS}
    others = sorted(tops - splits)
    if splits and others:
        raise InputError(
            f"{root} has folder {fields.short(others[0])} beside {fields.short(min(splits))}:"
            " expected either class folders, or folders of splits with class folders inside"
        )
    return bool(splits)


def _warn_of_empty_folders(folders: Sequence[Folder], depth: int, root: Path) -> None:
    names = {folder.parts[: depth + 1] for folder in folders if len(folder.parts) > depth}
    filled = {folder.parts[: depth + 1] for folder in folders if folder.images()}
    empty = sorted("/".join(parts) for parts in names - filled)
    if empty:
        logging.warning(
            "%d folders of %s hold no image and are no class: %s",
            len(empty), root, ", ".join(map(fields.short, empty[:10])),
        )  # fmt: skip


def _check_splits(images: Sequence[_Image]) -> None:
    with_split = [image for image in images if image.split]
    without = [image for image in images if not image.split]
    if with_split and without:
        raise InputError(
            f"{with_split[0].path} lies in the folder of a split and {without[0].path} does not:"
            " expected folders of splits in all the folders of data.raw_dir, or in none"
        )


def _check_nesting(images: Sequence[_Image], wanted: Sequence[str], roots: Sequence[Path]) -> None:
    """Refuses to take parts or splits with the same folders inside for classes.

    Not so if `data.classes` says that they are.
    """
    direct = {image.class_name for image in images if len(image.inside) == 1}
    owners = {image.class_name.casefold(): image.class_name for image in images}
    for image in images:
        name, below = image.class_name, image.inside[0]
        if name in direct or name in wanted:
            continue
        owner = owners.setdefault(below.casefold(), name)
        if owner != name:
            raise InputError(
                f"{', '.join(map(str, roots))} has folder {fields.short(below)} both in"
                f" {fields.short(name)} and in or as {fields.short(owner)}, so these may be no"
                " classes: call splits train, val and test; give parts of a data set as several"
                f" folders of data.raw_dir, joined with {os.pathsep!r}; or name the classes in"
                " data.classes"
            )


def _check_classes(
    names: Collection[str], wanted: Sequence[str], roots: Sequence[Path]
) -> tuple[str, ...]:
    where = ", ".join(map(str, roots))
    classes = check_class_names(names, wanted, where)
    absent = [name for name in classes if name not in names]
    if absent:
        raise InputError(
            f"{where} has no folder with images for class {fields.short(absent[0])} of"
            f" data.classes; it has {', '.join(map(fields.short, sorted(names))) or 'none'}"
            f"{nearest(absent[0], sorted(names))}"
        )
    for name in classes:
        check_printable(name, roots[0] / name)
    return classes


def _image_ids(images: Sequence[_Image]) -> list[str]:
    for image in images:
        check_printable("/".join(image.parts), image.path)
    return unique_ids([(*image.parts[:-1], split_ending(image.parts[-1])[0]) for image in images])
