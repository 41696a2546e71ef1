"""Every config and every variant: it loads, says what the recipe says, and trains a few steps."""

import csv
import importlib.util
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from skinjax import config_file, experiment, freezing, models, phases, train
from skinjax.config import default_config, phase
from skinjax.data.labels import ISIC9_CLASSES
from skinjax.errors import InputError
from skinjax.experiment import Experiment
from skinjax.layer_paths import Layers, stage_of
from skinjax.models import efficientnet, efficientnet_v2, resnet
from skinjax.models.heads import PRESETS
from skinjax.models.pretrained import keras_models

FOLDER = Path(__file__).parents[1] / "configs"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.py"))}
RECIPES = (
    "ham10000_binary", "ham10000_effnetv2", "isic2019_focal", "isic2019_frozen", "isic2019_gradual",
    "isic9",
)  # fmt: skip


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"configs_{name}", FILES[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cases() -> list[str]:
    """ "FILE" or "FILE:VARIANT" of each."""
    return [
        f"{name}:{variant}" if variant else name
        for name in FILES
        for variant in getattr(_module(name), "VARIANTS", ("",))
    ]


CASES = _cases()


def _load(case: str, *overrides: str) -> ConfigDict:
    name, colon, variant = case.partition(":")
    return config_file.load(f"{FILES[name]}{colon}{variant}", overrides)


def _layers(config: ConfigDict) -> Layers:
    classifier = models.create(config.model, num_classes=2, axis_name=None)
    side = config.data.image_size or models.image_size(config.model.name)
    image_BHWC = np.zeros((1, side, side, 3), np.float32)
    variables = jax.eval_shape(
        lambda key: classifier.init(key, image_BHWC, train=False), jax.random.key(0)
    )
    return Layers.of(
        {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})},
        classifier.stages,
    )


def _phases(config: ConfigDict, steps_per_epoch: int = 10) -> tuple[phases.Phase, ...]:
    return phases.resolve(config, _layers(config), steps_per_epoch)


# What they are.


def test_every_recipe_of_the_table_is_there():
    assert set(RECIPES) <= set(FILES)
    assert len(CASES) == len(set(CASES)) >= 26


@pytest.mark.parametrize("case", CASES)
def test_passes_all_checks(case: str):
    config = _load(case)
    # What `pretrained.resolve` fills from the weights, which can't be had here.
    config.data.image_size = config.data.image_size or models.image_size(config.model.name)
    experiment.check(config)


@pytest.mark.parametrize("name", FILES)
def test_docstring_has_the_command_and_what_was_measured(name: str):
    text = " ".join(_module(name).__doc__.split())
    assert f"configs/{name}.py" in text or f"make {name}" in text
    # Figures by hardware and wall time, or plainly none.
    figures = all(word in text for word in ("Measured", "cores", "minutes", "seed"))
    assert figures or "Not measured" in text
    for variant in getattr(_module(name), "VARIANTS", ()):
        assert all(part in text for part in variant.split(","))


@pytest.mark.parametrize("name", [name for name in FILES if hasattr(_module(name), "VARIANTS")])
def test_unknown_variant_is_told_with_those_that_there_are(name: str):
    variants = ", ".join(_module(name).VARIANTS)
    with pytest.raises(InputError, match=f"{name}.py has no variant 'big'; it has {variants}"):
        _load(f"{name}:big")


@pytest.mark.parametrize("case", [case for case in CASES if case.split(":")[0] in RECIPES])
def test_without_published_weights_everything_is_trained(case: str):
    config = _load(case, "--config.model.pretrained=")
    (only,) = _phases(config)
    assert not only.frozen
    assert only.num_steps == (config.steps or config.epochs * 10)


# The recipes' numbers.


@pytest.mark.parametrize(
    ("name", "batch_size", "learning_rate", "optimizer", "dtype"),
    [
        ("isic2019_frozen", 64, 5e-5, "adam", "float32"),
        ("isic2019_gradual", 64, 5e-5, "adamw", "bfloat16"),
        ("ham10000_binary", 16, 1e-4, "adamw", "float32"),
        ("ham10000_effnetv2", 32, 1e-4, "adamw", "bfloat16"),
        ("isic9", 32, 1e-3, "adamw", "float32"),
        ("isic2019_focal", 32, 1e-4, "adamw", "bfloat16"),
    ],
)
def test_batch_size_and_optimizer(
    name: str, batch_size: int, learning_rate: float, optimizer: str, dtype: str
):
    config = _load(name)
    assert config.batch_size == batch_size
    assert config.optimizer.learning_rate == learning_rate
    assert config.optimizer.name == optimizer
    assert config.model.dtype == dtype


@pytest.mark.parametrize(
    ("name", "dataset", "split", "head"),
    [
        ("isic2019_frozen", "isic2019", (0.70, 0.15, 0.15), "bn_256"),
        ("isic2019_gradual", "isic2019", (0.70, 0.15, 0.15), "dropout_256_bn"),
        ("ham10000_binary", "ham10000_binary", (0.70, 0.15, 0.15), "bn_512_256_sigmoid"),
        ("ham10000_effnetv2", "ham10000", (0.70, 0.15, 0.15), "dropout_512_256"),
        ("isic9", "isic9", (0.70, 0.20, 0.10), "dense_256_128"),
        ("isic2019_focal", "isic2019", (0.70, 0.15, 0.15), "bn_128_bn"),
    ],
)
def test_data_and_head(name: str, dataset: str, split: tuple[float, ...], head: str):
    config = _load(name)
    assert config.data.dataset == dataset
    assert config.data.split == split
    assert config.data.near_duplicates  # grouped
    assert config.model.head == (head,)
    assert head in PRESETS


@pytest.mark.parametrize(
    ("name", "loss", "exponent", "scale"),
    [
        ("isic2019_frozen", "cross_entropy", 0.5, "mean"),
        ("isic2019_gradual", "focal", 0.5, "mean"),
        ("ham10000_binary", "cross_entropy", 1.0, "majority"),
        ("ham10000_effnetv2", "focal", 0.0, "mean"),
        ("isic9", "cross_entropy", 0.0, "mean"),
        ("isic2019_focal", "focal", 1.0, "mean"),
    ],
)
def test_loss_and_class_weights(name: str, loss: str, exponent: float, scale: str):
    config = _load(name)
    assert config.loss.name == loss
    assert config.loss.class_weight_exponent == exponent
    assert config.loss.class_weight_scale == scale


@pytest.mark.parametrize("name", ["isic2019_frozen", "isic2019_gradual"])
def test_isic2019_is_cleaned_and_mildly_augmented(name: str):
    config = _load(name)
    assert config.data.preprocess.clahe
    assert config.data.preprocess.remove_hair
    assert config.data.image_size == 224
    assert config.augment == default_config().augment


def test_isic2019_frozen_trains_the_layers_behind_the_cut():
    (cut,) = _phases(_load("isic2019_frozen:first150"))
    assert set(freezing.keras_after("efficientnet_b0", 150)) - {"head"} <= set(cut.trainable)
    assert "backbone/block5/block2/conv_depthwise" in cut.trainable
    assert "backbone/block5/block2/conv_expand" in cut.frozen
    (last,) = _phases(_load("isic2019_frozen:last50"))
    assert set(last.trainable) < set(cut.trainable)
    config = _load("isic2019_frozen")
    assert config.plateau.patience > 0
    assert config.early_stopping.patience > config.plateau.patience
    assert config.optimizer.weight_decay == 0


def test_isic2019_gradual_unfreezes_in_five_stages_over_80_epochs():
    stages = _phases(_load("isic2019_gradual"))
    assert len(stages) == 5
    assert sum(one.num_steps for one in stages) == 80 * 10
    assert set(map(stage_of, stages[0].trainable)) == {"head"}
    for before, after in itertools.pairwise(stages):
        assert set(before.trainable) < set(after.trainable)
    assert not stages[-1].frozen


def test_ham10000_binary_trains_the_head_and_then_30_layers():
    config = _load("ham10000_binary")
    head, last = _phases(config)
    assert set(map(stage_of, head.trainable)) == {"head"}
    assert (head.num_steps, head.learning_rate) == (250, 1e-4)
    assert last.learning_rate == pytest.approx(1e-5)
    assert set(freezing.keras_last("resnet50", 30)) - {"head"} <= set(last.trainable)
    assert "backbone/layer4/block0/conv1" in last.frozen
    assert config.checkpoint.metric == config.early_stopping.metric == "pr_auc"
    assert config.early_stopping.patience == 7
    assert config.plateau.factor == 0.5
    assert config.plateau.patience > 0


def test_ham10000_binary_takes_30_layers_of_each_network():
    _, vgg16 = _phases(_load("ham10000_binary:vgg16"))
    assert not vgg16.frozen  # Keras's VGG16 has 19
    _, inception = _phases(_load("ham10000_binary:inception_v3"))
    trained = [layer for layer in inception.trainable if layer.startswith("backbone")]
    # Keras's last block: 9 convolutions with batch norm and ReLU, 3 concatenations and a pooling,
    # of which the first in Keras's order is left out.
    assert len(trained) == 2 * 9 - 1
    assert all(layer.startswith("backbone/mixed_7c/") for layer in trained)
    assert "backbone/mixed_7c/branch3x3dbl_1/conv" in inception.frozen
    _, efficientnet = _phases(_load("ham10000_binary:efficientnet_b0"))
    expected = set(freezing.keras_last("efficientnet_b0", 30)) - {"head"}
    assert expected <= set(efficientnet.trainable)
    (simple,) = _phases(_load("ham10000_binary:simple_cnn"))
    assert not simple.frozen
    assert _load("ham10000_binary:simple_cnn").model.name == "simple_cnn4"


def test_ham10000_binary_is_normalized_as_its_weights_are():
    """Caffe's preprocessing comes with Keras's weights; on timm's it would be wrong."""
    assert not _load("ham10000_binary").normalize.mean
    caffe = keras_models.CAFFE
    np.testing.assert_allclose(np.multiply(caffe.mean, 255), (123.68, 116.779, 103.939))
    np.testing.assert_allclose(np.multiply(caffe.std, 255), 1)
    assert {"resnet50", "vgg16"} == set(keras_models.BLUE_FIRST)


def test_ham10000_effnetv2_restarts_within_its_30_epochs():
    config = _load("ham10000_effnetv2")
    settings = config.optimizer
    assert settings.schedule == "warm_restarts"
    assert settings.restart_epochs * (1 + settings.restart_factor) == config.epochs == 30
    assert config.data.balance == 1
    assert min(config.augment.flip_horizontal, config.augment.flip_vertical) > 0
    assert config.augment.rotation_degrees == 30
    for field in ("brightness", "hue", "shear_degrees", "shift"):
        assert config.augment[field] > 0
    assert config.augment.crop_scale[0] < 1
    for size in "sml":
        assert _load(f"ham10000_effnetv2:{size}").model.name == f"efficientnetv2_{size}"


def test_isic9_counts_steps():
    config = _load("isic9:resnet_scratch")
    (only,) = _phases(config)
    assert only.num_steps == 2000
    assert config.evaluate.every_steps == 100
    assert (config.data.short_side, config.data.image_size, config.data.resize) == (
        256,
        224,
        "crop",
    )
    assert config.normalize.mean == (0, 0, 0)
    assert config.normalize.std == (1, 1, 1)
    assert not config.data.published_split
    assert config.data.balance == 1
    assert config.early_stopping.patience > 0
    assert config.augment.rotation_degrees == 10
    for field in ("flip_horizontal", "flip_vertical", "brightness", "contrast", "noise_std"):
        assert config.augment[field] > 0
    settings = config.optimizer
    assert settings.weight_decay == 1e-4
    assert settings.warmup_fraction == 0.2
    assert settings.start_factor * settings.learning_rate == pytest.approx(1e-4)
    assert settings.end_factor * settings.learning_rate == pytest.approx(1e-5)


@pytest.mark.parametrize("network", ["resnet18", "resnet34", "resnet50"])
def test_isic9_trains_a_resnet_in_three_ways(network: str):
    suffix = "" if network == "resnet18" else f",{network}"
    scratch, head, finetuned = (
        _load(f"isic9:{kind}{suffix}")
        for kind in ("resnet_scratch", "resnet_head", "resnet_finetuned")
    )
    assert scratch.model.name == head.model.name == finetuned.model.name == network
    assert not scratch.model.pretrained
    assert network in head.model.pretrained
    assert head.model.pretrained == finetuned.model.pretrained
    assert set(map(stage_of, _phases(head)[0].trainable)) == {"head"}
    assert not _phases(finetuned)[0].frozen


@pytest.mark.parametrize("network", ["efficientnet_b0", "resnet50"])
def test_isic2019_focal_keeps_batch_norm_and_looks_at_the_loss(network: str):
    config = _load(f"isic2019_focal:{network}")
    (only,) = _phases(config)
    layers = _layers(config)
    last = set(freezing.keras_last(network, 30)) - {"head"}
    assert last - layers.norms <= set(only.trainable)
    assert not layers.norms & {layer for layer in only.trainable if layer.startswith("backbone")}
    assert config.epochs == 50
    assert config.optimizer.weight_decay == 1e-5
    assert config.checkpoint.metric == config.plateau.metric == config.early_stopping.metric
    assert config.checkpoint.metric == "loss"
    for field in (
        "rotation_degrees", "shift", "shear_degrees", "zoom", "flip_horizontal", "flip_vertical",
        "brightness", "channel_shift",
    ):  # fmt: skip
        assert config.augment[field] > 0


# They train.


@pytest.fixture(scope="module")
def raw_dirs(
    synthetic_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str]]:
    """The data set and its folder, by what a recipe asks for: drawn lesions in each layout."""
    folder = tmp_path_factory.mktemp("layouts")
    drawn = sorted(synthetic_dir.rglob("*.jpg"))
    return {
        "synthetic": ("ham10000", str(synthetic_dir)),
        "ham10000": ("ham10000", str(synthetic_dir)),
        "ham10000_binary": ("ham10000_binary", str(synthetic_dir)),
        "isic9": ("isic9", str(_write_isic9(folder / "isic9", drawn))),
        "isic2019": ("isic2019", str(_write_isic2019(folder / "isic2019", drawn))),
    }


def _write_isic9(folder: Path, drawn: list[Path]) -> Path:
    for number, source in enumerate(drawn[:90]):
        target = folder / "Train" / ISIC9_CLASSES[number % 9] / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return folder


def _write_isic2019(folder: Path, drawn: list[Path]) -> Path:
    images = folder / "ISIC_2019_Training_Input"
    images.mkdir(parents=True)
    columns = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC", "UNK")
    truth, metadata = [("image", *columns)], []
    for number, source in enumerate(drawn[:80]):
        shutil.copy(source, images)
        one_hot = (float(number % 8 == place) for place in range(9))
        truth.append((source.stem, *map(str, one_hot)))
        metadata.append((source.stem, "55", "anterior torso", f"BCN_{number}", "female"))
    header = ("image", "age_approx", "anatom_site_general", "lesion_id", "sex")
    for name, rows in (("GroundTruth", truth), ("Metadata", [header, *metadata])):
        with (folder / f"ISIC_2019_Training_{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


@pytest.fixture
def drawn_without_compiling(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draws initial parameters with NumPy; compiling that costs as much as compiling a step."""

    def draw(self: Experiment) -> dict:
        rng = np.random.default_rng(0)

        def leaf(path: tuple, shape: jax.ShapeDtypeStruct) -> np.ndarray:
            name = path[-1].key
            if name == "kernel":
                std = np.prod(shape.shape[:-1]) ** -0.5
                return rng.normal(scale=std, size=shape.shape).astype(shape.dtype)
            fill = 1 if name in ("scale", "var") else 0
            return np.full(shape.shape, fill, shape.dtype)

        return jax.tree_util.tree_map_with_path(leaf, self.variable_shapes())

    monkeypatch.setattr(Experiment, "init_variables", draw)
    yield
    # Compiled networks stay mapped into memory, of which a process may have only so many pieces.
    jax.clear_caches()


def _shorten(
    config: ConfigDict, case: str, raw_dirs: dict[str, tuple[str, str]], prepared: Path
) -> None:
    """A step or two of each phase on tiny images, with all that the recipe turns on."""
    config.data.dataset, config.data.raw_dir = raw_dirs[config.data.dataset]
    config.data.prepared_dir = str(prepared)
    config.data.image_size = 80 if config.model.name == "inception_v3" else 32
    if config.data.short_side:
        config.data.short_side = config.data.image_size + 4
    config.batch_size = 4
    config.evaluate.update(batch_size=16, every_epochs=1, every_steps=0)
    config.parallel.update(num_devices=1, cpu_devices=0)
    # With frozen layers, though there are no weights to freeze.
    config.model.pretrained = ""
    config.phases_from_scratch = True
    config.steps = 0 if config.phases else 2
    stages = config.phases
    if case == "isic2019_gradual":  # five of the same network, as in `effnet`, which trains all
        stages = (stages[0], stages[-1])
    config.phases = tuple(
        phase(one.trainable, steps=1, learning_rate_factor=one.learning_rate_factor)
        for one in stages
    )
    config.log.update(tensorboard=False, progress=False)


def _make_shallow(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    """One block in each stage, where the recipe names no layer inside one: it compiles sooner.

    All of the networks' blocks are built by `test_passes_all_checks`, run by the parity tests, and
    trained in their own tests.
    """
    trained = (config.trainable, *(one.trainable for one in config.phases))
    if any("/" in layer for layers in trained for layer in layers):
        return
    name = config.model.name
    if name in efficientnet.SCALES:
        width, _, size = efficientnet.SCALES[name]
        monkeypatch.setitem(efficientnet.SCALES, name, (width, 0.01, size))
    if name in efficientnet_v2.EFFICIENTNETS:
        sizes = efficientnet_v2.EFFICIENTNETS[name]
        shallow = sizes._replace(depths=(1,) * len(sizes.depths))
        monkeypatch.setitem(efficientnet_v2.EFFICIENTNETS, name, shallow)
    if name in resnet.RESNETS:
        depths, bottleneck = resnet.RESNETS[name]
        monkeypatch.setitem(resnet.RESNETS, name, ((1,) * len(depths), bottleneck))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("fast_compilation", "drawn_without_compiling")
def test_trains(
    case: str,
    raw_dirs: dict[str, tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    config = _load(case)
    _make_shallow(config, monkeypatch)
    _shorten(config, case, raw_dirs, Path(raw_dirs["isic9"][1]).parent / "prepared")
    found = train.train(config, tmp_path / "run")
    assert found["step"] >= 1
    value = found["metrics"][config.checkpoint.metric]
    assert value is not None
    assert np.isfinite(value)
