"""Do archives hold what is published? Told from their lists, before anything is unpacked."""

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from absl import logging

from skinjax.download.catalog import IMAGE_ENDINGS, Count, File, Publication
from skinjax.errors import InputError

# Paths of the members, by the published name of the archive.
Lists = Mapping[str, Collection[str]]
_NEAR = 0.02  # of a number of images that the publisher has changed now and then


def check(publication: Publication, lists: Lists, places: Mapping[str, Path]) -> None:
    """Compares the archives in `lists`, which may be some of all; `places` are where they are.

    Raises:
      InputError: one is laid out otherwise; the number of images is not the published one.
    """
    for file in publication.files:
        if file.name in lists:
            _check_layout(publication, file, lists[file.name], places[file.name])
    for count in publication.counts:
        if all(name in lists for name in count.names):
            _check_count(publication, count, lists, places)


def log(publication: Publication, lists: Lists) -> None:
    """Says how many images there are."""
    for count in publication.counts:
        found, names = _num_images(count, lists), ", ".join(count.names)
        if found == count.images:
            logging.info("%s: %d images, as published", names, found)
        else:
            logging.warning(
                "%s: %d images; %d are published; there are several versions",
                names, found, count.images,
            )  # fmt: skip


def plain(path: object) -> str:
    """A path as it is compared: people and tools change case, blanks and underscores."""
    return str(path).replace("_", " ").casefold()


def _check_layout(
    publication: Publication, file: File, members: Collection[str], place: Path
) -> None:
    paths = [PurePosixPath(member) for member in members]
    images = [path for path in paths if _is_image(path)]
    there = {f"/{plain(path.parent)}/" for path in images}
    there |= {f"/{plain(path)}" for path in paths if not _is_image(path)}
    lacking = [
        wanted
        for wanted in file.holds
        if not any(one.endswith(f"/{plain(wanted)}") for one in there)
    ]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise InputError(
            f"{place} is not {file.name}: among its {len(images)} images and other files there is"
            f" no {lacking[0]}{more}; give the archive of {publication.page} with --from=FILE"
        )


def _check_count(
    publication: Publication, count: Count, lists: Lists, places: Mapping[str, Path]
) -> None:
    found = _num_images(count, lists)
    allowed = 0 if count.fixed else _NEAR * count.images
    if abs(found - count.images) > allowed:
        near = "" if count.fixed else "about "
        where = ", ".join(str(places[name]) for name in count.names)
        raise InputError(
            f"{', '.join(count.names)}: {found} images; {near}{count.images} are published at"
            f" {publication.page}: {where} is not as published, or was published anew; give the"
            " right archive with --from=FILE, or remove what is wrong to have it downloaded"
        )


def _num_images(count: Count, lists: Lists) -> int:
    paths = [PurePosixPath(path) for name in count.names for path in lists[name]]
    images = [path for path in paths if _is_image(path)]
    return len({path.name for path in images}) if count.distinct else len(images)


def _is_image(path: PurePosixPath) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS
