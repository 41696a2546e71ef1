"""The prepared data set of a run, found again for what comes after training."""

from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from skinjax.data import builder
from skinjax.data.prepared import PreparedDataset, open_prepared
from skinjax.errors import InputError

Moved = Mapping[str, str | None]


def open_data(
    config: ConfigDict, classes: tuple[str, ...], fingerprint: str, workdir: Path, moved: Moved
) -> tuple[ConfigDict, PreparedDataset]:
    """Opens the data that a checkpoint was trained on; prepares it where it isn't any more.

    Args:
      config: of the run.
      classes: of the checkpoint.
      fingerprint: of its data; '' for an imported model, which has no data of its own.
      workdir: of the run, for messages.
      moved: raw_dir, prepared_dir and directory, of `config.data`, where they have moved; each may
        be None or missing.

    Returns:
      The config with the data as they were found, and the data.

    Raises:
      InputError: there is no split but for training, the data are not what they were, or have
        other classes, or an imported model is given none or images of another size.
    """
    if config.data.train_on == "all":
        raise InputError(
            f"{workdir} was trained on every split (data.train_on=all): no split is left that "
            "could tell how good it is; train with data.train_on=train to evaluate"
        )
    config = config.copy_and_resolve_references()
    if moved.get("raw_dir") or moved.get("prepared_dir"):
        config.data.directory = ""
    config.data.update({name: value for name, value in moved.items() if value})
    if not fingerprint:
        config = _of_imported(config)
    prepared = builder.prepare(config)
    if fingerprint and prepared.fingerprint != fingerprint:
        raise InputError(
            f"the data in {config.data.raw_dir or config.data.dataset} is not what the checkpoint "
            f"was trained on (fingerprint {prepared.fingerprint[:12]}, then {fingerprint[:12]}); "
            "restore the files"
        )
    if prepared.classes != classes:
        raise InputError(
            f"the checkpoint's classes are {', '.join(classes)}, the data's "
            f"{', '.join(prepared.classes)}; evaluate it on data of its own classes"
        )
    return config, prepared


def _of_imported(config: ConfigDict) -> ConfigDict:
    if not config.data.directory:
        raise InputError(
            "the model was imported, so it has no data of its own: give --data, the folder of a "
            "prepared data set of its classes"
        )
    size = open_prepared(Path(config.data.directory)).image_size
    if size != config.data.image_size:
        raise InputError(
            f"--data={config.data.directory} has images of {size} pixels, and the model takes "
            f"{config.data.image_size}: prepare with --config.data.image_size="
            f"{config.data.image_size}"
        )
    return builder.settled(config)
