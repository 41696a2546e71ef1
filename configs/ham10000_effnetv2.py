"""EfficientNetV2 on HAM10000's seven classes, with weighted sampling and warm restarts.

    python -m skinjax.main train --config=configs/ham10000_effnetv2.py \
        --config.data.raw_dir=PATH/TO/ham10000 --workdir=runs/ham10000_effnetv2

The recipe of one of the reference projects: EfficientNetV2-S, or `:m` or `:l`. The loss is focal;
`--config.loss.name=cross_entropy` is the plain one, and with it `--config.loss.label_smoothing=0.1`
the smoothed one. Class weights are off, since all classes are drawn equally often;
`--config.loss.class_weight_exponent=0.5` or `1` turns them on.

It starts from timm/tf_efficientnetv2_<size>.in21k_ft_in1k, downloaded from the Hugging Face hub
once; `--config.model.pretrained=` takes another repository, a file or folder, or with nothing
behind it none. All layers are trained. Images have the size that the weights were trained on (300
pixels for S, 384 for the others).

What the project published leaves open, and what stands here: the amounts of the augmentations, a
first cycle of 10 epochs and a second of 20, focal gamma 2, weight decay 1e-4, no clipping of
gradients, and the best checkpoint by balanced accuracy. Images of one lesion stay in one split.

Not measured: the published weights can't be had where this was made.
"""

from ml_collections import ConfigDict

from skinjax.config import default_config
from skinjax.errors import InputError

VARIANTS = ("s", "m", "l")


def get_config(variant: str = "s") -> ConfigDict:
    """AdamW at 1e-4 over 30 epochs in two cosine cycles, focal loss, medium augmentation."""
    if variant not in VARIANTS:
        raise InputError(
            f"ham10000_effnetv2.py has no variant {variant!r}; it has {', '.join(VARIANTS)}"
        )
    config = default_config()
    config.epochs = 30
    config.batch_size = 32
    config.data.update(dataset="ham10000", split=(0.70, 0.15, 0.15), balance=1.0)
    config.augment.update(
        flip_horizontal=0.5,
        flip_vertical=0.5,
        rotation_degrees=30.0,
        crop_scale=(0.8, 1.0),
        shear_degrees=5.0,
        shift=0.1,
        zoom=0.1,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.05,
        noise_std=0.0,
    )
    config.model.name = f"efficientnetv2_{variant}"
    config.model.pretrained = f"timm/tf_efficientnetv2_{variant}.in21k_ft_in1k"
    config.model.head = ("dropout_512_256",)
    config.model.dtype = "bfloat16"
    config.loss.update(name="focal", focal_gamma=2.0, reduction="weights")
    config.optimizer.update(
        name="adamw",
        learning_rate=1e-4,
        schedule="warm_restarts",
        warmup_fraction=0.0,
        restart_epochs=10,
        restart_factor=2.0,
        end_factor=0.01,
        weight_decay=1e-4,
        clip_norm=0.0,
    )
    return config
