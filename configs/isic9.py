"""The nine-class folders at 224 px in 2,000 steps: a small CNN, or a ResNet three ways.

    python -m skinjax.main train --config=configs/isic9.py:resnet_scratch \
        --config.data.raw_dir=PATH/TO/isic9:PATH/TO/isic2019 --workdir=runs/isic9

The recipe of one of the reference projects. Variants: `:simple_cnn`; `:resnet_scratch`;
`:resnet_head`, published weights of which only the head is trained; `:resnet_finetuned`, published
weights of which everything is. The last three are a ResNet-18, and with `,resnet34` or `,resnet50`
behind them (`:resnet_head,resnet50`) that. The published weights are timm/<network>.a1_in1k,
downloaded from the Hugging Face hub once; `--config.model.pretrained=` takes another repository, a
file, or with nothing behind it none: then everything is trained. The loss is chosen by
`--config.loss.name=cross_entropy` or `focal`.

What the project published leaves open, and what stands here: the amounts of brightness, contrast
and noise (0.2, 0.2 and 0.02), probability 0.5 of each flip, no clipping of gradients, and early
stopping after 10 evaluations without a better balanced accuracy (with 6, a run that had not left
its initial plateau after 700 steps was stopped). Weight decay spares biases and norm parameters,
and the first step already has a tenth of the peak. ISIC 2019's metadata, which says what images
show one lesion, is optional: without it each image is taken for a lesion of its own. On a small
machine images may be smaller: `--config.data.image_size=96 --config.data.short_side=110` keeps the
crop's share.

The splits. Images of one lesion, copies, and images that look alike stay in one split here; the
project drew its 70/20/10 at random by image. Of the 2,241 images of `Train/`, 137 stand in two
class folders under two labels, and by ISIC 2019's metadata there are 1,754 lesions, so that in a
random split about three in ten test images have an image of the same lesion in training (60 to 77
of 224 in five draws), and about one in ten the very same picture, mostly under another label. To
compare, take the class folders as a plain folder, in which no lesions are known:

    --config.data.dataset=folder --config.data.raw_dir=PATH/TO/isic9/Train \
        --config.data.near_duplicates=False

Then 54 of 225 test images have a lesion mate in training; only files with the same bytes stay
together. `--config.data.duplicates=drop` leaves out the pictures under two labels, and all but one
of other copies.

Not measured.
"""

from ml_collections import ConfigDict

from skinjax.config import default_config
from skinjax.errors import InputError

VARIANTS = (
    "simple_cnn",
    *(
        name
        for kind in ("resnet_scratch", "resnet_head", "resnet_finetuned")
        for name in (kind, f"{kind},resnet34", f"{kind},resnet50")
    ),
)


def get_config(variant: str = "simple_cnn") -> ConfigDict:
    """2,000 steps of 32, drawn from all classes equally often; AdamW with warm-up and cosine."""
    if variant not in VARIANTS:
        raise InputError(f"isic9.py has no variant {variant!r}; it has {', '.join(VARIANTS)}")
    kind, _, network = variant.partition(",")
    config = default_config()
    config.steps = 2000
    config.batch_size = 32
    config.data.update(
        dataset="isic9",
        published_split=False,
        split=(0.70, 0.20, 0.10),
        resize="crop",
        short_side=256,
        image_size=224,
        balance=1.0,
    )
    config.augment.update(
        flip_horizontal=0.5,
        flip_vertical=0.5,
        rotation_degrees=10.0,
        crop_scale=(1.0, 1.0),
        brightness=0.2,
        contrast=0.2,
        saturation=0.0,
        hue=0.0,
        noise_std=0.02,
    )
    config.normalize.update(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    _set_network(config, kind, network or "resnet18")
    config.optimizer.update(
        name="adamw",
        learning_rate=1e-3,
        weight_decay=1e-4,
        schedule="cosine",
        warmup_fraction=0.2,
        start_factor=0.1,
        end_factor=0.01,
        clip_norm=0.0,
    )
    config.evaluate.every_steps = 100
    config.early_stopping.patience = 10
    return config


def _set_network(config: ConfigDict, kind: str, resnet: str) -> None:
    config.model.head = ("dense_256_128",)
    if kind == "simple_cnn":
        config.model.name = "simple_cnn"
        return
    config.model.name = resnet
    if kind != "resnet_scratch":
        config.model.pretrained = f"timm/{resnet}.a1_in1k"
    if kind == "resnet_head":
        config.trainable = ("head",)
