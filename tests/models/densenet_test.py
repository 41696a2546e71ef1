"""DenseNet. Parity with timm is in the golden tests of all families."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from ml_collections import ConfigDict

from skinjax.errors import InputError
from skinjax.models import densenet
from skinjax.models.backbone import Backbone
from skinjax.models.layers import TORCH, Mode, Settings

EVALUATION, TRAINING = Mode(train=False), Mode(train=True)
# Compiles in a fraction of the time.
QUICK: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def tiny(**settings: Any) -> Backbone:
    return densenet.densenet((1, 2), 2, Settings(lowering="xla", **settings))


def published(name: str, **fields: Any) -> Backbone:
    return densenet.build(name, ConfigDict({"variant": "", "drop_path": 0.0, **fields}), Settings())


def images(size: int = 32, number: int = 4) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(number, size, size, 3)).astype(np.float32)


def shapes(module: nn.Module, *inputs: Any) -> Any:
    """Shapes of the module's variables."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, EVALUATION))


def drawn(module: nn.Module, *inputs: Any) -> Any:
    """Variables drawn from a seed, none of them zero or one."""
    random = np.random.default_rng(0)

    def leaf(path: Any, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        noise = random.uniform(-1, 1, shape.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return noise * np.float32((6 / np.prod(shape.shape[:-1])) ** 0.5)
        return 0.2 * noise + np.float32(path[-1].key in ("scale", "var"))

    return jax.tree_util.tree_map_with_path(leaf, shapes(module, *inputs))


@pytest.mark.parametrize(
    ("name", "depths", "widths"),
    [
        ("densenet121", (6, 12, 24, 16), (128, 256, 512, 1024)),
        ("densenet201", (6, 12, 48, 32), (128, 256, 896, 1920)),
    ],
)
def test_stages(name: str, depths: tuple[int, ...], widths: tuple[int, ...]) -> None:
    backbone = published(name)
    assert backbone.stages == ("stem", "dense1", "dense2", "dense3", "dense4", "top")
    features_BC, variables = jax.eval_shape(
        lambda: backbone.init_with_output(
            jax.random.key(0),
            images(72),
            EVALUATION,
            capture_intermediates=lambda module, _: module.name in backbone.stages,
        )
    )
    blocks = [sum("block" in b for b in variables["params"][f"dense{n}"]) for n in (1, 2, 3, 4)]
    assert tuple(blocks) == depths
    outputs = {
        stage: variables["intermediates"][stage]["__call__"][0].shape for stage in backbone.stages
    }
    # A transition ends the stage before it: half of the channels, half of the size.
    assert outputs == {
        "stem": (4, 18, 18, 64),
        "dense1": (4, 9, 9, widths[0]),
        "dense2": (4, 4, 4, widths[1]),
        "dense3": (4, 2, 2, widths[2]),
        "dense4": (4, 2, 2, widths[3]),
        "top": (4, 2, 2, widths[3]),
    }
    assert features_BC.shape == (4, widths[3])
    assert densenet.image_size(name) == 224
    assert backbone.settings.norm == TORCH


def test_names_are_timms() -> None:
    variables = shapes(published("densenet121"), images())
    names = [
        f"{densenet.timm_name('/'.join(layer))}.{leaf}"
        for collection in ("params", "batch_stats")
        for *layer, leaf in traverse_util.flatten_dict(variables[collection])
    ]
    norm = ("scale", "bias", "mean", "var")
    layers = [f"features.denseblock{b + 1}.denselayer{n + 1}" for b in range(4) for n in range(48)
              if n < (6, 12, 24, 16)[b]]  # fmt: skip
    transitions = [f"features.transition{n}" for n in (1, 2, 3)]
    assert sorted(names) == sorted(
        [
            "features.conv0.kernel",
            *(f"features.{n}.{leaf}" for n in ("norm0", "norm5") for leaf in norm),
            *(f"{layer}.conv{n}.kernel" for layer in layers for n in (1, 2)),
            *(f"{layer}.norm{n}.{leaf}" for layer in layers for n in (1, 2) for leaf in norm),
            *(f"{transition}.conv.kernel" for transition in transitions),
            *(f"{transition}.norm.{leaf}" for transition in transitions for leaf in norm),
        ]
    )


def test_stages_are_timms_modules() -> None:
    stages = ("", *published("densenet121").stages)
    assert [densenet.timm_name(stage) for stage in stages] == [
        "",
        "features.pool0",
        "features.transition1",
        "features.transition2",
        "features.transition3",
        "features.denseblock4",
        "features.norm5",
    ]


def test_timm_architecture() -> None:
    assert densenet.timm_architecture("densenet201") == ("densenet201", "timm")
    assert densenet.timm_architecture("tv_densenet121") == ("densenet121", "timm")
    for other in ("densenetblur121d", "densenet161", "densenet264d"):
        assert densenet.timm_architecture(other) is None


def test_a_layer_adds_its_channels_to_those_it_was_given() -> None:
    layer, x_BHWC = densenet.Layer(3), images(5)
    variables = drawn(layer, x_BHWC)
    y_BHWC = jax.jit(lambda: layer.apply(variables, x_BHWC, EVALUATION))()
    assert y_BHWC.shape == (4, 5, 5, 6)
    np.testing.assert_array_equal(y_BHWC[..., :3], x_BHWC)
    # By hand, at the centre of the image: normalise, ReLU, 1x1, normalise, ReLU, 3x3.
    params, statistics = variables["params"], variables["batch_stats"]

    def norm(name: str, values: np.ndarray) -> np.ndarray:
        scale = params[name]["scale"] / np.sqrt(statistics[name]["var"] + 1e-5)
        return np.maximum((values - statistics[name]["mean"]) * scale + params[name]["bias"], 0)

    inner = norm("bn2", norm("bn1", x_BHWC) @ params["conv1"]["kernel"][0, 0])
    centre_BC = np.einsum("bhwc,hwcn->bn", inner[:, 1:4, 1:4], params["conv2"]["kernel"])
    np.testing.assert_allclose(y_BHWC[:, 2, 2, 3:], centre_BC, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def gradients() -> dict[bool, Any]:
    """Loss and gradients without and with remat."""

    def of(remat: bool) -> Any:
        backbone = tiny(remat=remat)
        variables, x_BHWC = drawn(backbone, images()), images()

        def loss(params: Any) -> jax.Array:
            features_BC, _ = backbone.apply(
                {**variables, "params": params}, x_BHWC, TRAINING, mutable=["batch_stats"]
            )
            return jnp.cos(3 * features_BC).sum()

        run = jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)
        return run(variables["params"])

    return {remat: of(remat) for remat in (False, True)}


def test_gradients_reach_every_parameter(gradients: dict[bool, Any]) -> None:
    for path, leaf in traverse_util.flatten_dict(gradients[False][1], sep="/").items():
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 1e-4, path


def test_remat_keeps_gradients(gradients: dict[bool, Any]) -> None:
    (value, plain), (remat_value, remat) = gradients[False], gradients[True]
    np.testing.assert_allclose(remat_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), plain, remat)


def test_remat_of_every_block() -> None:
    jaxpr = jax.make_jaxpr(tiny(remat=True).apply, static_argnums=2)(
        shapes(tiny(), images()), images(), EVALUATION
    )
    names = [equation.primitive.name for equation in jaxpr.eqns]
    remats = [name for name in names if name.startswith(("remat", "checkpoint"))]
    assert len(remats) == 6  # stem, three layers, a transition, top


def test_bfloat16_is_close() -> None:
    variables, x_BHWC = drawn(tiny(), images()), images()

    def features(dtype: Any) -> jax.Array:
        return jax.jit(lambda: tiny(dtype=dtype).apply(variables, x_BHWC, EVALUATION))()

    float32_BC, bfloat16_BC = features(jnp.float32), features(jnp.bfloat16)
    np.testing.assert_allclose(bfloat16_BC, float32_BC, rtol=0.05, atol=0.05)
    assert not np.array_equal(bfloat16_BC, float32_BC)


def test_what_it_refuses() -> None:
    shapes(published("densenet121"), images(29))
    with pytest.raises(InputError, match=r"28 x 28 pixels are too small for DenseNet.*29 or more"):
        shapes(published("densenet121"), images(28))
    with pytest.raises(InputError, match=r"'keras', but densenet121 has only 'timm'"):
        published("densenet121", variant="keras")
    with pytest.raises(InputError, match=r"drop_path is 0.1, but densenet121 has no residual"):
        published("densenet121", drop_path=0.1)
