"""The synthetic data set: drawn where it isn't yet, and read like HAM10000."""

from pathlib import Path

from ml_collections import ConfigDict

from skinjax.data import staging, synthetic
from skinjax.data.records import Reading
from skinjax.data.sources import ham10000


def read(config: ConfigDict) -> Reading:
    """Draws the data set of `config.synthetic` under `data.prepared_dir`, or in `data.raw_dir`.

    Raises:
      InputError: settings that can't be drawn, or a folder that holds anything else.
    """
    settings = dict(config.synthetic)
    if config.data.raw_dir:
        raw_dir = Path(config.data.raw_dir)
    else:
        shown = "-".join(str(settings[name]) for name in ("num_lesions", "image_size", "seed"))
        name = f"synthetic_raw-v{synthetic.VERSION}-{shown}"
        raw_dir = Path(config.data.prepared_dir) / name
    staging.build_folder(raw_dir, lambda folder: synthetic.write(folder, **settings))
    # Returns at once from what it wrote with these settings, and refuses any folder not its own.
    synthetic.write(raw_dir, **settings)
    return ham10000.read(raw_dir, source="synthetic")
