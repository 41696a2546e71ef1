"""What all backbones have in common."""

import jax
import jax.numpy as jnp
import pytest

from skinjax.config import default_config
from skinjax.models import create, families, image_size
from skinjax.models.layers import EVALUATION

# Per family the smallest, by name; what is asked of them is the same for their siblings.
NETWORKS = (
    "efficientnet_b0", "efficientnetv2_s", "resnet18", "convnext_tiny", "vit_small_patch16",
    "densenet121", "inception_v3", "vgg16", "simple_cnn",
)  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stage_for_grad_cam_is_a_map_whose_stages_all_have_outputs(name: str) -> None:
    model = default_config().model
    model.update(name=name, lowering="xla", dtype="bfloat16")
    backbone = create(model, num_classes=2, axis_name=None).backbone
    side = image_size(name)
    image_BHWC = jnp.zeros((2, side, side, 3))
    stages = {(stage,) for stage in backbone.stages}

    def outputs() -> dict[str, jax.Array]:
        variables = backbone.init(jax.random.key(0), image_BHWC, EVALUATION)
        _, state = backbone.apply(
            variables, image_BHWC, EVALUATION,
            capture_intermediates=lambda module, _: module.path in stages,
        )  # fmt: skip
        return {stage: state["intermediates"][stage]["__call__"][0] for stage in backbone.stages}

    maps = jax.eval_shape(outputs)
    seen = maps[backbone.map_stage]
    assert seen.ndim == (3 if name.startswith("vit") else 4)
    assert min(seen.shape[1:-1]) >= 7
    # Where the last stage itself is a map, that is the one.
    assert (
        backbone.map_stage == backbone.stages[-1]
        or maps[backbone.stages[-1]].ndim != 4
        or (name == "vgg16")
    )
    # The computation is in bfloat16 throughout; only what is pooled may be float32.
    assert {maps[stage].dtype for stage in maps} == {jnp.dtype("bfloat16")}


def test_every_family_is_asked() -> None:
    assert {families()[name] for name in NETWORKS} == set(families().values())


def test_remat_covers_stems_and_stages_of_one_block() -> None:
    model = default_config().model
    model.update(name="simple_cnn", remat=True)
    backbone = create(model, num_classes=2, axis_name=None).backbone
    image_BHWC = jnp.zeros((1, 32, 32, 3))
    variables = backbone.init(jax.random.key(0), image_BHWC, EVALUATION)
    jaxpr = jax.make_jaxpr(lambda v: backbone.apply(v, image_BHWC, EVALUATION))(variables)
    names = [equation.primitive.name for equation in jaxpr.eqns]
    assert len([name for name in names if name.startswith(("remat", "checkpoint"))]) == 3
