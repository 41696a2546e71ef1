"""A narrow ResNet-18 from scratch on HAM10000 at 96 px, for two CPU cores.

    python -m skinjax.main --config=configs/ham10000_small.py \
        --config.data.raw_dir=PATH/TO/ham10000 --workdir=runs/small
    python -m skinjax.main evaluate --workdir=runs/small
"""

from ml_collections import ConfigDict

from skinjax.config import default_config


def get_config() -> ConfigDict:
    """ResNet-18 of width 24, 40 epochs, square-root class weights."""
    config = default_config()
    config.data.image_size = 96
    config.epochs = 40
    config.batch_size = 64
    config.model.name = "resnet18"
    config.model.width = 24
    config.model.head = ()
    config.parallel.cpu_devices = 2
    # Dermoscopy has no up: any rotation is as good as another.
    config.augment.update(
        flip_horizontal=0.5,
        flip_vertical=0.5,
        rotation_degrees=180.0,
        crop_scale=(0.7, 1.0),
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.02,
        noise_std=0.02,
    )
    config.loss.class_weight_exponent = 0.5
    config.loss.reduction = "weights"
    config.loss.label_smoothing = 0.1
    config.optimizer.learning_rate = 2e-3
    config.optimizer.weight_decay = 0.05
    return config
