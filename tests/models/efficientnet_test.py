"""EfficientNet. Parity with timm and Keras is in the golden tests of all families."""

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import efficientnet
from skinjax.models.backbone import Backbone
from skinjax.models.efficientnet import Row, SqueezeExcite
from skinjax.models.layers import Mode, Settings

GOLDEN = Path(__file__).parents[1] / "golden"
EVALUATION, TRAINING = Mode(train=False), Mode(train=True)
ROWS = (Row(1, 3, 1, 1, 4), Row(2, 5, 2, 2, 8))


def tiny(drop_path: float = 0.0, **settings: Any) -> Backbone:
    return efficientnet.efficientnet(ROWS, 4, 6, drop_path, Settings(**settings))


def built(name: str, variant: str = "") -> Backbone:
    model = ConfigDict({"variant": variant, "drop_path": 0.0})
    return efficientnet.build(name, model, Settings())


def images(batch: int = 2) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((batch, 32, 32, 3), np.float32)


def shapes(module: Backbone) -> Any:
    """Shapes of the network's variables."""
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), x, EVALUATION), image)


def drawn(module: Backbone) -> Any:
    """Variables with no zero or one left, so that no part of the network is without effect."""
    random = np.random.default_rng(2)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> Any:
        noise = random.standard_normal(shape.shape, np.float32)
        if path[-1].key == "kernel":
            return noise / np.prod(shape.shape[:-1]) ** 0.5
        return 0.1 * np.abs(noise) + (path[-1].key in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(leaf, shapes(module))


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a timm network's tensors, from its golden file."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        about = json.loads(file["about"].tobytes())
    return {tensor[0]: tuple(tensor[1]) for tensor in about["tensors"]}


def as_torch(leaf: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """PyTorch's name and shape of a leaf."""
    if leaf == "kernel":
        return "weight", (shape[3], shape[2], *shape[:2])
    names = {"scale": "weight", "mean": "running_mean", "var": "running_var"}
    return names.get(leaf, leaf), shape


def test_stages_and_squeezed_width() -> None:
    def forward(image_BHWC: jax.Array) -> Any:
        variables = tiny().init(jax.random.key(0), image_BHWC, EVALUATION)
        return variables, tiny().apply(variables, image_BHWC, EVALUATION, **capture)

    capture: dict[str, Any] = {"capture_intermediates": lambda module, _: True}
    variables, (features_BC, seen) = jax.eval_shape(forward, images(1))
    stages = tiny().stages
    assert stages == ("stem", "block1", "block2", "top")
    outputs = [seen["intermediates"][stage]["__call__"][0].shape for stage in stages]
    assert outputs == [(1, 16, 16, 4), (1, 16, 16, 4), (1, 8, 8, 8), (1, 8, 8, 6)]
    assert (features_BC.shape, features_BC.dtype) == ((1, 6), jnp.float32)
    # A quarter of the block's input (8), not of its expanded width (16).
    squeeze = variables["params"]["block2"]["block1"]["se"]["conv_reduce"]["kernel"]
    assert squeeze.shape == (1, 1, 16, 2)


@pytest.mark.parametrize(
    ("name", "depths", "widths", "size"),
    [
        ("efficientnet_b0", (1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320), 224),
        ("efficientnet_b2", (2, 3, 3, 4, 4, 5, 2), (16, 24, 48, 88, 120, 208, 352), 260),
        ("efficientnet_b4", (2, 4, 4, 6, 6, 8, 2), (24, 32, 56, 112, 160, 272, 448), 380),
        ("efficientnet_b7", (4, 7, 7, 10, 10, 13, 4), (32, 48, 80, 160, 224, 384, 640), 600),
    ],
)
def test_compound_scaling(
    name: str, depths: tuple[int, ...], widths: tuple[int, ...], size: int
) -> None:
    # The tables of timm 1.0.31's networks.
    rows = efficientnet.rows(name)
    assert tuple(row.depth for row in rows) == depths
    assert tuple(row.features for row in rows) == widths
    assert efficientnet.image_size(name) == size


def test_stem_and_top_are_scaled_too() -> None:
    modules = built("efficientnet_b3").modules
    assert (modules[0].features, modules[-1].features) == (40, 1536)


def test_rounding_down_by_more_than_a_tenth_rounds_up() -> None:
    assert [efficientnet.scaled_channels(10, width) for width in (0.8, 1.0, 1.15)] == [8, 16, 16]
    assert efficientnet.scaled_channels(88, 1.04) == 88


def test_squeeze_excite_by_hand() -> None:
    x_BHWC = jnp.array([[1.0, 4.0], [3.0, 0.0]]).reshape(1, 2, 1, 2)
    params = {
        "conv_reduce": {"kernel": jnp.array([1.0, 1.0]).reshape(1, 1, 2, 1), "bias": jnp.ones(1)},
        "conv_expand": {"kernel": jnp.array([0.5, -1]).reshape(1, 1, 1, 2), "bias": jnp.zeros(2)},
    }
    y_BHWC: Any = SqueezeExcite(1).apply({"params": params}, x_BHWC)
    squeezed = 5 / (1 + np.exp(-5))  # silu of mean 2 plus mean 2 plus bias 1
    gate_C = 1 / (1 + np.exp(-squeezed * np.array([0.5, -1])))
    np.testing.assert_allclose(y_BHWC, x_BHWC * gate_C, rtol=1e-6)


@pytest.fixture(scope="module")
def b0() -> dict[tuple[str, ...], Any]:
    """Shapes of EfficientNet-B0's variables, by path."""
    flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(shapes(built("efficientnet_b0")))
    return flat


def test_names_and_shapes_are_timms(b0: dict[tuple[str, ...], Any]) -> None:
    found = {}
    for (_, *layer, leaf), array in b0.items():
        name, shape = as_torch(leaf, array.shape)
        found[f"{efficientnet.timm_name('/'.join(layer))}.{name}"] = shape
    assert len(found) == len(b0)
    want = manifest("efficientnet_b0")
    ours = {
        name: shape
        for name, shape in want.items()
        if not name.endswith("num_batches_tracked") and not name.startswith("classifier")
    }
    assert found == ours
    stages = [efficientnet.timm_name(stage) for stage in ("stem", "block1", "block7", "top")]
    assert stages == ["bn1", "blocks.0", "blocks.6", "bn2"]
    assert efficientnet.timm_name("block2/block1") == "blocks.1.1"


def test_names_are_keras(b0: dict[tuple[str, ...], Any]) -> None:
    layers = {path[1:-1] for path in b0}
    names = {efficientnet.keras_name("/".join(layer)) for layer in layers}
    assert len(names) == len(layers)
    golden = json.loads((GOLDEN / "keras_layers.json").read_text())["efficientnet_b0"]["layers"]
    # The normalisation of the images is no part of the network here.
    assert names == {name for name, _, weights in golden if weights} - {"normalization"}
    assert efficientnet.keras_name("top") == "top_activation"
    with pytest.raises(ValueError, match="'block2/block1' is no layer"):
        efficientnet.keras_name("block2/block1")


def test_timm_architecture() -> None:
    assert efficientnet.timm_architecture("efficientnet_b4") == ("efficientnet_b4", "timm")
    assert efficientnet.timm_architecture("tf_efficientnet_b7") == ("efficientnet_b7", "tf")
    for other in ("efficientnet_b8", "efficientnet_b3_pruned", "efficientnetv2_s", "resnet18"):
        assert efficientnet.timm_architecture(other) is None


@pytest.mark.parametrize(
    ("variant", "norm", "padding"),
    [
        ("", (1e-5, 0.9, True), "symmetric"),
        ("timm", (1e-5, 0.9, True), "symmetric"),
        ("tf", (1e-3, 0.9, True), "same"),
        ("keras", (1e-3, 0.99, False), "same"),
    ],
)
def test_variants(variant: str, norm: tuple[float, float, bool], padding: str) -> None:
    backbone = built("efficientnet_b1", variant)
    block = backbone.modules[3].blocks[1]
    for settings in (backbone.settings, block.settings):
        found = settings.norm
        assert (found.epsilon, found.momentum, found.unbiased) == norm
        assert settings.padding == padding


def test_unknown_variant_is_refused() -> None:
    with pytest.raises(InputError, match="'torch', but efficientnet_b0 has only timm, tf, keras"):
        built("efficientnet_b0", "torch")


def test_frozen_norms_keep_their_statistics_and_others_do_not() -> None:
    variables = drawn(tiny())
    frozen = frozenset({"stem/bn", "block2/block0/bn_depthwise"})
    _, updates = jax.jit(
        lambda x: tiny().apply(variables, x, Mode(True, frozen), mutable=["batch_stats"])
    )(images())
    before = traverse_util.flatten_dict(variables["batch_stats"])
    after = traverse_util.flatten_dict(updates["batch_stats"])
    same = {"/".join(path[:-1]) for path in before if np.array_equal(before[path], after[path])}
    assert same == frozen


def test_evaluation_is_by_example_and_training_drops_paths() -> None:
    model = tiny(drop_path=0.5)
    variables = drawn(model)
    evaluate = jax.jit(lambda x: model.apply(variables, x, EVALUATION))
    features_BC = evaluate(images(8))
    np.testing.assert_allclose(evaluate(images(8)[::-1])[::-1], features_BC, rtol=1e-5, atol=1e-5)

    def train(key: jax.Array) -> Any:
        rngs = {"dropout": key}
        return model.apply(variables, images(8), TRAINING, rngs=rngs, mutable=["batch_stats"])[0]

    first, second = (jax.jit(train)(jax.random.key(key)) for key in (0, 1))
    assert not np.allclose(first, second)


def test_drop_path_is_linear_in_depth_and_only_on_residual_branches() -> None:
    rates: list[float] = []

    def watch(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if type(context.module).__name__ == "DropPath":
            rates.append(context.module.rate)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        shapes(tiny(drop_path=0.6))
    # Of blocks 0 and 2 of three; block 1 changes the size and has no residual branch.
    np.testing.assert_allclose(rates, [0.0, 0.4])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_to_single(dtype: str) -> None:
    variables = drawn(tiny())

    def features(dtype: Any) -> np.ndarray:
        model = tiny(dtype=jnp.dtype(dtype))
        return np.asarray(jax.jit(lambda x: model.apply(variables, x, EVALUATION))(images()))

    half_BC, want_BC = features(dtype), features("float32")
    assert half_BC.dtype == np.float32
    assert 0 < np.max(np.abs(half_BC - want_BC)) < 0.05 * np.max(np.abs(want_BC))


@pytest.fixture(scope="module")
def gradients() -> dict[bool, Any]:
    """Loss and gradients in training, without and with remat."""

    def of(remat: bool) -> Any:
        model = tiny(0.3, remat=remat)
        variables = drawn(model)

        # On running statistics, because batch statistics take the bias of a norm before out again.
        norms = traverse_util.flatten_dict(variables["batch_stats"])
        mode = Mode(True, frozenset("/".join(path[:-1]) for path in norms))

        def loss(params: Any) -> jax.Array:
            state = {**variables, "params": params}
            rngs = {"dropout": jax.random.key(2)}
            features_BC: Any = model.apply(state, images(4), mode, rngs=rngs)
            return jnp.cos(features_BC).sum()

        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    return {remat: of(remat) for remat in (False, True)}


def test_gradients_reach_every_parameter(gradients: dict[bool, Any]) -> None:
    for path, leaf in traverse_util.flatten_dict(gradients[False][1], sep="/").items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-6, path


def test_remat_keeps_names_and_gradients(gradients: dict[bool, Any]) -> None:
    (value, plain), (remat_value, remat) = gradients[False], gradients[True]
    np.testing.assert_allclose(remat_value, value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, remat)
