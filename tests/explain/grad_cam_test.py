"""Grad-CAM: against class activation maps, on every family, and its place on the image."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from skinjax.config import default_config
from skinjax.errors import InputError
from skinjax.explain import Explainer, grad_cam
from skinjax.models import Classifier, convnext, create, densenet, image_size, resnet, vgg, vit
from skinjax.models.backbone import Backbone
from skinjax.models.layers import Settings
from skinjax.trained import TrainedModel

S = Settings(lowering="xla")
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
TINY: dict[str, Callable[[], Backbone]] = {
    "resnet": lambda: resnet.resnet((1, 1), False, 4, 0.0, False, S),
    "convnext": lambda: convnext.convnext((1, 1), (4, 8), 0.0, S),
    "vit": lambda: vit.vit(8, 2, 2, 0.0, S),
    "densenet": lambda: densenet.densenet((1, 1), 4, S),
    "vgg": lambda: vgg.vgg((4, 8), (1, 1), True, 0, S),
}


@pytest.fixture
def tiny(tiny_classifier: Any, make_model: Any) -> TrainedModel:
    return make_model(tiny_classifier(3).backbone, image_size=16)


def test_behind_a_mean_and_a_dense_layer_it_is_the_class_activation_map(
    tiny: TrainedModel, images: Any
) -> None:
    # Selvaraju et al., section 3.1: the weights are those of the dense layer.
    image_BHWC, class_B = images(4, 16), np.array([0, 1, 2, 0])
    feature_map = tiny.module.apply(
        tiny.variables, tiny.normalize(image_BHWC), method=Classifier.feature_map
    )
    kernel_CK = np.asarray(tiny.variables["params"]["head"]["logits"]["kernel"])
    own_CB = kernel_CK[:, class_B]
    contrast_CB = own_CB - (kernel_CK.sum(1, keepdims=True) - own_CB) / 2
    wanted = np.maximum(np.einsum("bhwc,cb->bhw", feature_map, contrast_CB), 0) / 16
    got = grad_cam.coarse(tiny, tiny.variables, image_BHWC, class_B)
    assert wanted.max() > 0
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("family", TINY)
def test_every_family_has_maps_that_depend_on_the_class(
    family: str, make_model: Any, images: Any
) -> None:
    size = 64 if family == "vit" else 32  # of patches of 16 pixels
    model = make_model(TINY[family](), image_size=size)
    image_BHWC = images(3, size)

    @functools.partial(jax.jit, compiler_options=QUICK)
    def maps(variables: Any, image_BHWC: Any, class_B: Any) -> jax.Array:
        return grad_cam.grad_cam(model, variables, image_BHWC, class_B)

    map_BHW = np.stack([maps(model.variables, image_BHWC, np.full(3, one)) for one in (0, 1)])
    assert map_BHW.dtype == np.float32
    assert map_BHW.shape == (2, 3, size, size)
    largest = map_BHW.max(axis=(2, 3))
    assert ((largest == 0) | (np.abs(largest - 1) < 1e-6)).all()
    assert map_BHW.min() >= 0
    assert (largest > 0).any()
    assert np.abs(map_BHW[0] - map_BHW[1]).max() > 0.1


def test_a_large_network_has_maps_of_the_images_size(tiny: TrainedModel) -> None:
    settings = default_config().model
    settings.update(name="inception_v3", lowering="xla", dtype="bfloat16")
    module = create(settings, num_classes=3, axis_name=None)
    side = image_size("inception_v3")
    image = jnp.zeros((2, side, side, 3))
    model = dataclasses.replace(tiny, module=module)

    def maps() -> jax.Array:
        variables = module.init(jax.random.key(0), image, train=False)
        return grad_cam.grad_cam(model, variables, image, jnp.array([0, 1]))

    shape = jax.eval_shape(maps)
    assert (shape.shape, shape.dtype) == ((2, side, side), jnp.float32)


@pytest.mark.parametrize(
    ("family", "size", "stage", "cells"),
    [
        ("vgg", 32, "block2", 8),
        ("vgg", 16, "block2", 4),
        ("vgg", 8, "block1", 4),
        ("vgg", 4, "block1", 2),
        ("resnet", 32, "layer2", 4),
        ("resnet", 16, "layer1", 4),
        ("resnet", 4, "layer2", 1),  # the deepest of those as fine
        ("vit", 32, "block1", 2),
    ],
)
def test_the_deepest_stage_of_enough_cells_is_looked_at(
    family: str, size: int, stage: str, cells: int, make_model: Any
) -> None:
    model = make_model(TINY[family](), image_size=size)
    assert grad_cam.find_stage(model) == stage
    shape = grad_cam._feature_shape(model, stage)
    assert shape[1:-1] in ((cells, cells), (1 + cells**2,))


def test_an_earlier_stage_has_a_finer_map_of_the_same_logits(
    tiny: TrainedModel, images: Any
) -> None:
    image_NHWC, class_N = images(2, 16), np.array([0, 1])
    for stage, chosen, cells in (("", "block1", 4), ("stem", "stem", 8)):
        explainer = Explainer(tiny, stage=stage, batch_size=2)
        assert (explainer.stage, explainer.resolution()) == (chosen, (cells, cells))
        coarse_Nhw = explainer.coarse_maps(image_NHWC, class_N)
        assert coarse_Nhw.shape == (2, cells, cells)
        assert coarse_Nhw.min() < 0 < coarse_Nhw.max()

        def logits(module: Classifier, stage: str = stage) -> jax.Array:
            seen = module.feature_map(tiny.normalize(image_NHWC), stage)
            return module.logits(module.features_of_map(seen, stage))

        wanted_NC = tiny.forward()(tiny.variables, image_NHWC, None)["logits_BC"]
        found_NC = nn.apply(logits, tiny.module)(tiny.variables)
        np.testing.assert_allclose(found_NC, wanted_NC, rtol=1e-5, atol=1e-6)


def test_only_stages_with_maps_can_be_asked_for(make_model: Any) -> None:
    model = make_model(TINY["convnext"](), image_size=32)
    with pytest.raises(InputError, match=r"--stage=norm is none of stem, stage1, stage2, whose"):
        Explainer(model, stage="norm")
    with pytest.raises(InputError, match="--stage=stem is grad_cam's, and --method=saliency has"):
        Explainer(model, "saliency", stage="stem")


def test_a_sigmoids_first_class_has_a_map(
    tiny_classifier: Any, make_model: Any, images: Any
) -> None:
    backbone = tiny_classifier(2).backbone
    model = make_model(backbone, image_size=16, classes=("a", "b"), head=(("sigmoid",),))
    maps = [
        grad_cam.coarse(model, model.variables, images(4, 16), np.full(4, one)) for one in (0, 1)
    ]
    assert np.max(maps[0]) > 0
    # What speaks for one of two classes speaks against the other.
    assert np.max(maps[0] * maps[1]) == 0


def test_tokens_are_read_row_by_row_without_the_class_token() -> None:
    tokens_BTC = jnp.arange(10.0).reshape(1, 10, 1)
    np.testing.assert_array_equal(
        grad_cam._as_grid(tokens_BTC)[0, :, :, 0], np.arange(1, 10).reshape(3, 3)
    )


def test_a_map_without_evidence_is_zero_and_others_reach_one() -> None:
    map_BHW = jnp.array([[[0.0, 0.0]], [[0.5, 4.0]]])
    np.testing.assert_array_equal(grad_cam.to_unit(map_BHW), [[[0, 0]], [[0.125, 1]]])


def test_the_shift_of_strides_is_measured(tiny: TrainedModel, make_model: Any) -> None:
    # Kernels without a favourite side, and nothing that a ReLU cuts off.
    def even(path: Any, leaf: np.ndarray) -> np.ndarray:
        value = {"kernel": 1, "scale": 1, "var": 1, "bias": 1000}.get(path[-1].key, 0)
        return np.full_like(leaf, value)

    variables = jax.tree_util.tree_map_with_path(even, tiny.variables)
    strided = dataclasses.replace(tiny, variables=variables)
    # Two convolutions of stride 2 with a pixel of zeros around: 1/2 and 1 pixel to the top left.
    shift = grad_cam.measure_shift(strided, key=jax.random.key(0))
    np.testing.assert_allclose(shift, [-1.5, -1.5], atol=1e-3)
    # Tokens are cut out without overlap.
    tokens = make_model(TINY["vit"](), image_size=32)
    assert grad_cam.measure_shift(tokens, key=jax.random.key(0)) == (0, 0)


def test_a_shift_moves_the_map_and_its_edge_values_go_on() -> None:
    map_Bhw = jnp.zeros((1, 4, 4)).at[0, 1, 3].set(1)
    straight = grad_cam._resize(map_Bhw, (16, 16), (0, 0))
    np.testing.assert_allclose(
        straight, jax.image.resize(map_Bhw, (1, 16, 16), "linear"), atol=1e-6
    )
    moved = np.asarray(grad_cam._resize(map_Bhw, (16, 16), (2, -2)))[0]
    np.testing.assert_allclose(moved[2:, :14], np.asarray(straight)[0, :14, 2:], atol=1e-6)
    np.testing.assert_allclose(moved[:, 14:], moved[:, 13:14].repeat(2, axis=1), atol=1e-6)
