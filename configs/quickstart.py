"""SimpleCNN on embedded data that `synthetic` draws: minutes on two CPU cores.

make quickstart
"""

from ml_collections import ConfigDict

from skinjax.config import default_config


def get_config() -> ConfigDict:
    """Small images, a small network, a few epochs."""
    config = default_config()
    config.data.source = "synthetic"
    config.data.image_size = 64
    config.epochs = 100
    config.batch_size = 32
    config.evaluate.every_epochs = 5
    config.model.name = "simple_cnn"
    config.model.head = (
        ("dense", 256), ("relu",), ("dropout", 0.7), ("dense", 128), ("relu",), ("dropout", 0.7),
    )  # fmt: skip
    config.augment.update(flip_horizontal=0.5, flip_vertical=0.5)
    config.loss.class_weight_exponent = 1.0
    return config
