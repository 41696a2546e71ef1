"""All images of a data set on disk, decoded once: shards, and a table of what was found out."""

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from skinjax import logs
from skinjax.data import fingerprints, shards, staging
from skinjax.data.records import Record
from skinjax.errors import InputError

FORMAT_VERSION = 2  # rises with any change of what becomes of an image, too
MANIFEST = "images.json"
_SAMPLES = "samples"
_NUM_SAMPLES = 6

# Writes the shards that are not there yet.
Runner = Callable[[Sequence[shards.Shard], Path, shards.Spec], None]


@dataclass(frozen=True)
class ImageStore:
    """A folder of shards of images, in the order of the records."""

    directory: Path
    fingerprint: str

    def facts(self) -> list[shards.ImageFacts]:
        """What is known of each record's file, in their order; also of those left out."""
        return list(self.read_facts())

    def read_facts(self) -> Iterator[shards.ImageFacts]:
        """The same one by one, for a large store."""
        for path in sorted(self.directory.glob(shards.FACTS_PATTERN)):
            yield from shards.read_facts(path)


def build(
    folder: Path,
    records: Sequence[Record],
    digests: Sequence[str],
    spec: shards.Spec,
    runner: Runner,
) -> ImageStore:
    """Decodes, verifies, preprocesses and writes every record's image, unless that was done.

    The result lies in `<folder>/<fingerprint>`, where the fingerprint covers the images' content,
    ids and labels and all that is done to them. A run that was killed goes on: no finished shard is
    written again. Nothing under the final name is ever part of a data set.

    Args:
      folder: where the data set's stores lie.
      records: of the data set, in order.
      digests: SHA-256 of each record's file.
      spec: what is done to the images.
      runner: writes shards: `on_this_machine`, or one of `beam.runner`.

    Raises:
      OSError: among others a full disk; what was written is removed then.
    """
    settings = _settings(spec)
    fingerprint = fingerprints.combine(
        {
            "settings": settings,
            "images": (
                (record.image_id, record.label, digest)
                for record, digest in zip(records, digests, strict=True)
            ),
        }
    )
    directory = folder / fingerprint[:12]

    def fill(target: Path) -> None:
        planned = shards.plan(records, spec)
        if spec.encoding == "raw":  # the sizes of the others aren't known
            left = [one for one in planned if not shards.is_written(one, target)]
            count = sum(len(one.records) for one in left)
            what = f"{count} images of {spec.image_shape[0]} px"
            staging.check_space(target, count * math.prod(spec.image_shape), what)
        runner(planned, target, spec)
        _finish(target, planned, spec, fingerprint)

    staging.resume_folder(directory, fill)
    return open_store(directory)


def on_this_machine(planned: Sequence[shards.Shard], directory: Path, spec: shards.Spec) -> None:
    """Writes the shards one after the other, the images of each on all cores."""
    total = sum(len(shard.records) for shard in planned)
    with tqdm(
        total=total, desc="preparing images", unit="image", disable=not sys.stderr.isatty()
    ) as progress:
        for shard in planned:
            if shards.is_written(shard, directory):
                progress.update(len(shard.records))
                progress.refresh()
                continue
            shards.write(shard, directory, spec, on_image=progress.update)


def samples(directory: Path) -> list[Path]:
    """Some of the files of a store as they were published."""
    return sorted((directory / _SAMPLES).glob("*"))


def open_store(directory: Path) -> ImageStore:
    """Opens what `build` made, by its folder alone.

    Raises:
      InputError: no such folder, another format, or files that are missing or cut short.
    """
    manifest = read_manifest(directory / MANIFEST, FORMAT_VERSION, delete=directory)
    return ImageStore(directory, manifest["fingerprint"])


def read_manifest(path: Path, version: int, *, delete: Path) -> dict[str, Any]:
    """Reads the JSON that was written last into a folder, and checks the files that it lists.

    Args:
      path: the manifest.
      version: the format version that this program writes.
      delete: what an error tells to delete.

    Raises:
      InputError: no folder or no manifest in it, another format, or a file that is not whole.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found, files = manifest["format_version"], manifest["files"]
    except OSError:
        raise InputError(f"no prepared data set in {path.parent}: {path} cannot be read") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is broken: delete {delete} to build it anew") from None
    if found != version:
        raise InputError(
            f"{path} has format version {found}, expected {version}: delete {delete} to build it"
            " anew"
        )
    for name, size in files.items():
        file = path.parent / name
        if not file.is_file() or file.stat().st_size != size:
            state = f"has {file.stat().st_size} bytes" if file.is_file() else "is missing"
            raise InputError(
                f"{file} {state}, expected {size} bytes: the prepared data set is not whole;"
                f" delete {delete} to build it anew"
            )
    return manifest


def write_manifest(path: Path, version: int, content: Mapping[str, Any]) -> None:
    """Lists the files beside it, with their sizes, and says that the folder is whole."""
    files = {
        file.name: file.stat().st_size for file in sorted(path.parent.iterdir()) if file.is_file()
    }
    manifest = {"format_version": version, **content, "files": files}
    logs.write_json(path, manifest)


def _settings(spec: shards.Spec) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "classes": list(spec.classes),
        "preprocess": spec.preprocess.settings(),
        "encoding": spec.encoding,
        "min_side": spec.min_side,
    }


def _finish(
    directory: Path,
    planned: Sequence[shards.Shard],
    spec: shards.Spec,
    fingerprint: str,
) -> None:
    """Turns a folder of written shards into a store; may be cut off and called again."""
    for path in directory.iterdir():  # what a killed run was writing
        if path.name.startswith("."):
            path.unlink()
    lengths, good = [], []
    for shard in planned:
        facts = shards.read_facts(directory / shard.facts_name)
        usable = [
            record for record, one in zip(shard.records, facts, strict=True) if not one.reason
        ]
        lengths.append(len(usable))
        good += usable
    shards.write_metadata(directory, planned, lengths, spec)
    if not good:
        first = next(shards.read_facts(directory / planned[0].facts_name))
        raise InputError(
            f"none of {sum(len(shard.records) for shard in planned)} images can be used; the first"
            f" is {first.image_id}, which {first.reason}"
        )
    _copy_samples(directory / _SAMPLES, good)
    write_manifest(
        directory / MANIFEST,
        FORMAT_VERSION,
        {**_settings(spec), "fingerprint": fingerprint, "images": sum(lengths)},
    )


def _copy_samples(directory: Path, records: Sequence[Record]) -> None:
    """Keeps some files as published, from all over the data set, to show preprocessing on."""
    directory.mkdir(exist_ok=True)
    count = min(_NUM_SAMPLES, len(records))
    for record in (records[len(records) * number // count] for number in range(count)):
        shutil.copyfile(record.path, directory / f"{record.image_id}{record.path.suffix}")
