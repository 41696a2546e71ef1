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
    config.epochs = 12
    config.batch_size = 32
    config.model.name = "simple_cnn"
    config.model.head = (
        ("dense", 256), ("relu",), ("dropout", 0.7), ("dense", 128), ("relu",), ("dropout", 0.7),
    )  # fmt: skip
    config.loss.class_weight_exponent = 0.5
    return config
