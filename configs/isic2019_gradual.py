"""EfficientNet-B0 on ISIC 2019 at 224 px, unfrozen in five stages over 80 epochs.

    python -m skinjax.main train --config=configs/isic2019_gradual.py \
        --config.data.raw_dir=PATH/TO/isic2019 --workdir=runs/isic2019_gradual

The recipe of one of the reference projects, which prepared the images from files of 512 pixels. It
computes in bfloat16, which needs no scaling of the loss.

It starts from timm/tf_efficientnet_b0.aa_in1k, TensorFlow's weights, downloaded from the Hugging
Face hub once. Keras's own file goes as well
(`--config.model.pretrained=efficientnetb0_notop.h5`), as does any other repository, file or folder;
with `--config.model.pretrained=` everything is trained from scratch in one phase of 80 epochs.

What the project published leaves open, and what stands here: how the 80 epochs and the layers are
shared out between the five stages, one learning rate throughout, focal gamma 2, weight decay 1e-4,
and the best checkpoint by balanced accuracy. Images of one lesion stay in one split.

Not measured: the published weights can't be had where this was made.
"""

from ml_collections import ConfigDict

from skinjax.config import default_config, phase


def get_config() -> ConfigDict:
    """AdamW at 5e-5, focal loss with square-root class weights, the mild augmentations."""
    config = default_config()
    config.epochs = 80
    config.batch_size = 64
    config.data.update(dataset="isic2019", split=(0.70, 0.15, 0.15), image_size=224)
    config.data.preprocess.update(clahe=True, remove_hair=True)
    config.model.name = "efficientnet_b0"
    config.model.pretrained = "timm/tf_efficientnet_b0.aa_in1k"
    config.model.head = ("dropout_256_bn",)
    config.model.dtype = "bfloat16"
    upper = ("head", "top", "block7")
    middle = (*upper, "block6", "block5")
    config.phases = (
        phase(("head",), epochs=10),
        phase(upper, epochs=15),
        phase(middle, epochs=15),
        phase((*middle, "block4", "block3"), epochs=20),
        phase(("*",), epochs=20),
    )
    config.loss.update(name="focal", focal_gamma=2.0, class_weight_exponent=0.5)
    config.optimizer.update(
        name="adamw",
        learning_rate=5e-5,
        schedule="constant",
        warmup_fraction=0.0,
        eps=1e-7,
        weight_decay=1e-4,
        clip_norm=0.0,
    )
    return config
