"""ConvNeXt. Parity with timm is in the golden tests of all families."""

import math
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import convnext
from skinjax.models.backbone import Backbone
from skinjax.models.layers import Mode, Settings

TIMM = ConfigDict({"variant": "timm", "drop_path": 0.0})
EVALUATION, TRAINING = Mode(train=False), Mode(train=True)


def tiny(drop_path: float = 0.0, **settings: Any) -> Backbone:
    return convnext.convnext((1, 2), (4, 6), drop_path, Settings(**settings))


def image_shape(size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)


def shapes(module: nn.Module, *inputs: Any) -> Any:
    """Shapes of the module's variables."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, EVALUATION))


def drawn(module: nn.Module, *inputs: Any) -> Any:
    """Parameters drawn from a seed, none of them zero or one."""
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: random.normal(scale=0.5, size=leaf.shape).astype(np.float32),
        shapes(module, *inputs),
    )


def images(number: int = 2) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(number, 32, 32, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "depths", "widths"),
    [
        ("convnext_tiny", (3, 3, 9, 3), (96, 192, 384, 768)),
        ("convnext_small", (3, 3, 27, 3), (96, 192, 384, 768)),
        ("convnext_base", (3, 3, 27, 3), (128, 256, 512, 1024)),
    ],
)
def test_stages(name: str, depths: tuple[int, ...], widths: tuple[int, ...]) -> None:
    backbone = convnext.build(name, TIMM, Settings())
    assert backbone.stages == ("stem", "stage1", "stage2", "stage3", "stage4", "norm")

    def initialise(image_BHWC: jax.Array) -> Any:
        return backbone.init_with_output(
            jax.random.key(0),
            image_BHWC,
            EVALUATION,
            capture_intermediates=lambda module, _: module.name in backbone.stages,
        )

    # An odd row is left out by the second downsampling, as in timm.
    features_BC, variables = jax.eval_shape(initialise, image_shape(72))
    assert set(variables) == {"params", "intermediates"}  # no batch norm to freeze
    blocks = [
        len([b for b in variables["params"][f"stage{n}"] if "block" in b]) for n in (1, 2, 3, 4)
    ]
    assert tuple(blocks) == depths
    outputs = {
        stage: variables["intermediates"][stage]["__call__"][0].shape for stage in backbone.stages
    }
    assert outputs == {
        "stem": (2, 18, 18, widths[0]),
        "stage1": (2, 18, 18, widths[0]),
        "stage2": (2, 9, 9, widths[1]),
        "stage3": (2, 4, 4, widths[2]),
        "stage4": (2, 2, 2, widths[3]),
        "norm": (2, widths[3]),
    }
    assert features_BC.shape == (2, widths[3])
    assert convnext.image_size(name) == 224


def test_names_are_timms() -> None:
    params = traverse_util.flatten_dict(shapes(tiny(), images())["params"])
    names = {f"{convnext.timm_name('/'.join(layer))} {leaf}".strip() for *layer, leaf in params}
    block = {
        *("gamma", "conv_dw kernel", "conv_dw bias", "norm scale", "norm bias"),
        *("mlp.fc1 kernel", "mlp.fc1 bias", "mlp.fc2 kernel", "mlp.fc2 bias"),
    }
    blocks = ("stages.0.blocks.0", "stages.1.blocks.0", "stages.1.blocks.1")
    assert len(names) == len(params)
    assert names == {
        *("stem.0 kernel", "stem.0 bias", "stem.1 scale", "stem.1 bias"),
        *("stages.1.downsample.0 scale", "stages.1.downsample.0 bias"),
        *("stages.1.downsample.1 kernel", "stages.1.downsample.1 bias"),
        *(f"{name} gamma" for name in blocks),
        *(f"{name}.{leaf}" for name in blocks for leaf in block - {"gamma"}),
        *("head.norm scale", "head.norm bias"),
    }
    assert [convnext.timm_name(stage) for stage in ("stem", "stage1", "stage4", "norm")] == [
        *("stem", "stages.0", "stages.3", "head.norm")
    ]


def test_timm_architecture() -> None:
    assert convnext.timm_architecture("convnext_base") == ("convnext_base", "timm")
    for other in ("convnext_tiny_hnf", "convnextv2_tiny", "convnext_large", "convnext_nano_ols"):
        assert convnext.timm_architecture(other) is None


def test_block_computed_by_hand() -> None:
    block = convnext.Block(0.0)
    x_BHWC = np.random.default_rng(1).normal(size=(1, 2, 3, 4)).astype(np.float32)
    variables = drawn(block, x_BHWC)
    params = variables["params"]
    padded = np.pad(x_BHWC[0].astype(np.float64), ((3, 3), (3, 3), (0, 0)))
    want_HWC = np.empty((2, 3, 4))
    for i, j in np.ndindex(2, 3):
        taps = padded[i : i + 7, j : j + 7] * params["conv_depthwise"]["kernel"][:, :, 0]
        y_C = taps.sum((0, 1)) + params["conv_depthwise"]["bias"]
        y_C = (y_C - y_C.mean()) / np.sqrt(y_C.var() + 1e-6)
        y_C = y_C * params["norm"]["scale"] + params["norm"]["bias"]
        y_E = y_C @ params["dense_expand"]["kernel"] + params["dense_expand"]["bias"]
        y_E = np.array([y * 0.5 * (1 + math.erf(y / math.sqrt(2))) for y in y_E])
        y_C = y_E @ params["dense_project"]["kernel"] + params["dense_project"]["bias"]
        want_HWC[i, j] = x_BHWC[0, i, j] + params["gamma"] * y_C
    got_BHWC = jax.jit(lambda: block.apply(variables, x_BHWC, EVALUATION))()
    np.testing.assert_allclose(got_BHWC[0], want_HWC, rtol=1e-5, atol=1e-5)


def test_drop_path_grows_linearly_to_the_last_block() -> None:
    model = ConfigDict({"variant": "", "drop_path": 0.34})
    stages = convnext.build("convnext_tiny", model, Settings()).modules[1:-1]
    blocks = [b for stage in stages for b in stage.blocks if isinstance(b, convnext.Block)]
    np.testing.assert_allclose([block.drop_path for block in blocks], np.linspace(0, 0.34, 18))


def test_drop_path_drops_the_branch() -> None:
    block = convnext.Block(0.5)
    x_BHWC = np.tile(np.asarray([0.5, -1, 2, 0.3], np.float32), (16, 1, 1, 1))
    variables = drawn(block, x_BHWC)
    rngs = {"dropout": jax.random.key(0)}
    whole_BHWC = np.asarray(block.apply(variables, x_BHWC, EVALUATION))
    trained_BHWC = np.asarray(block.apply(variables, x_BHWC, TRAINING, rngs=rngs))
    branch_BHWC, dropped_BHWC = whole_BHWC - x_BHWC, trained_BHWC - x_BHWC
    kept_B = np.abs(dropped_BHWC).max((1, 2, 3)) > 0.01
    assert 0 < kept_B.sum() < 16
    np.testing.assert_allclose(dropped_BHWC[kept_B], 2 * branch_BHWC[kept_B], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def gradients() -> dict[bool, Any]:
    """Gradients without and with remat, in training with stochastic depth."""

    def of(remat: bool) -> Any:
        backbone = tiny(0.3, remat=remat, lowering="xla")  # which compiles faster
        variables, x_BHWC = drawn(backbone, images()), images(8)
        rngs = {"dropout": jax.random.key(2)}

        def loss(variables: Any) -> jax.Array:
            features_BC: Any = backbone.apply(variables, x_BHWC, TRAINING, rngs=rngs)
            return jnp.cos(features_BC).sum()

        return jax.jit(jax.value_and_grad(loss))(variables)

    return {remat: of(remat) for remat in (False, True)}


def test_gradients_reach_every_parameter(gradients: dict[bool, Any]) -> None:
    _, gradient = gradients[False]
    for path, leaf in traverse_util.flatten_dict(gradient, sep="/").items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-6, path


def test_remat_keeps_gradients(gradients: dict[bool, Any]) -> None:
    (value, plain), (remat_value, remat) = gradients[False], gradients[True]
    np.testing.assert_allclose(remat_value, value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, remat)


def test_remat_of_every_block() -> None:
    variables = shapes(tiny(), images())
    jaxpr = jax.make_jaxpr(tiny(remat=True).apply, static_argnums=2)(
        variables, images(), EVALUATION
    )
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert len([name for name in names if name.startswith(("remat", "checkpoint"))]) == 6


def test_products_are_of_bfloat16() -> None:
    variables = shapes(tiny(), images())
    backbone = tiny(dtype=jnp.bfloat16, lowering="xla")
    lowered = jax.jit(backbone.apply, static_argnums=2).lower(variables, images(), EVALUATION)
    kinds = ("stablehlo.convolution", "stablehlo.dot_general")
    products = [line for line in lowered.as_text().splitlines() if any(k in line for k in kinds)]
    for line in products:
        assert re.search(r": \(tensor<[^>]*xbf16>, tensor<[^>]*xbf16>\) ->", line), line
    # The stem, a downsampling and the three depthwise ones, which `lowering` keeps convolutions.
    assert len([line for line in products if "convolution" in line]) == 5
    assert len(products) == 5 + 3 * 2


def test_bfloat16_is_close() -> None:
    variables, x_BHWC = drawn(tiny(), images()), images()

    def features(dtype: Any) -> jax.Array:
        return jax.jit(lambda: tiny(dtype=dtype).apply(variables, x_BHWC, EVALUATION))()

    float32_BC, bfloat16_BC = features(jnp.float32), features(jnp.bfloat16)
    assert bfloat16_BC.dtype == jnp.bfloat16
    np.testing.assert_allclose(bfloat16_BC.astype(jnp.float32), float32_BC, atol=0.05)


def test_initial_parameters() -> None:
    backbone = convnext.convnext((1,), (8,), 0.0, Settings())
    params = jax.jit(lambda: backbone.init(jax.random.key(0), images(), EVALUATION))()["params"]
    flat = traverse_util.flatten_dict(params, sep="/")
    kernels = [np.ravel(leaf) for path, leaf in flat.items() if path.endswith("kernel")]
    np.testing.assert_allclose(np.std(np.concatenate(kernels)), 0.02, rtol=0.1)
    for path, leaf in flat.items():
        value = {"bias": 0.0, "scale": 1.0, "gamma": 1e-6}.get(path.split("/")[-1])
        if value is not None:
            np.testing.assert_allclose(leaf, value)


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match=r"images of 16 x 16 pixels are too small.*image_size"):
        shapes(tiny(), np.zeros((1, 16, 16, 3)))
    with pytest.raises(InputError, match=r"model\.variant is 'tf', but convnext_tiny"):
        convnext.build("convnext_tiny", ConfigDict({"variant": "tf", "drop_path": 0.0}), Settings())
