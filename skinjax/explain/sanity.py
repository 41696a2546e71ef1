"""Whether a map depends on what a network learned: the weights are drawn anew, and it must change.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, section 3: the cascading
randomisation, from the head down to the image, and Spearman's rank correlation of the maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import rankdata

from skinjax.explain import Explainer, missing_metadata
from skinjax.explain.grad_cam import MIN_CELLS
from skinjax.trained import TrainedModel

# Above it the maps of an untrained network are too much like the trained one's to say anything of
# what was learned. The paper draws no line; this one is ours.
SUSPICIOUS = 0.5


@dataclass(frozen=True)
class Row:
    """The maps after the stages from the head down to this one were drawn anew.

    Attributes:
      stage: the last of them.
      correlation: the mean over images of the maps' rank correlation with those of the trained
        network; None where it is defined for no image.
      count: images behind the mean: those of which not both maps are the same everywhere.
    """

    stage: str
    correlation: float | None
    count: int


def cascade(
    explainer: Explainer,
    image_NHWC: np.ndarray,
    class_N: np.ndarray,
    metadata_NM: np.ndarray | None = None,
    *,
    key: jax.Array,
) -> list[Row]:
    """Draws one stage after the other anew, the head first, and compares the maps at each.

    Args:
      explainer: of the trained network. Its maps are compared as they are before they are
        resized, which would count each cell many times.
      image_NHWC, class_N, metadata_NM: as in `Explainer.maps`; the classes stay the same.
      key: of the new weights.
    """
    model = explainer.model
    untrained = draw(model, key)
    trained_NHW = explainer.coarse_maps(image_NHWC, class_N, metadata_NM)
    stages = tuple(reversed(model.module.stages))
    rows = []
    for number, stage in enumerate(stages, start=1):
        variables = mixed(model.variables, untrained, stages[:number])
        map_NHW = explainer.coarse_maps(image_NHWC, class_N, metadata_NM, variables=variables)
        correlation_N = rank_correlation(trained_NHW, map_NHW)
        known_N = np.isfinite(correlation_N)
        mean = float(correlation_N[known_N].mean()) if known_N.any() else None
        rows.append(Row(stage, mean, int(np.sum(known_N))))
    return rows


def draw(model: TrainedModel, key: jax.Array) -> dict[str, Any]:
    """The variables of the network before any training."""
    size = model.image_size
    image_BHWC = jnp.zeros((1, size, size, 3), jnp.float32)

    def init(key: jax.Array) -> Any:
        return model.module.init(key, image_BHWC, missing_metadata(model, 1), train=False)

    drawn = jax.jit(init)(key)
    return {name: drawn.get(name, {}) for name in model.variables}


def mixed(
    trained: Mapping[str, Any], untrained: Mapping[str, Any], stages: Sequence[str]
) -> dict[str, Any]:
    """`trained` with these stages, of parameters and running statistics, from `untrained`."""

    def pick(path: Any, old: Any, new: Any) -> Any:
        names = [part.key for part in path]
        # params/head/..., and params/backbone/<stage>/...
        stage = names[1] if names[1] == "head" else names[2]
        return new if stage in stages else old

    return dict(jax.tree_util.tree_map_with_path(pick, dict(trained), dict(untrained)))


def rank_correlation(first_NHW: np.ndarray, second_NHW: np.ndarray) -> np.ndarray:
    """Spearman's, of each pair of maps: float64 (N,).

    0 where one of the two is the same everywhere, since then it changed altogether; NaN where
    both are.
    """
    ranks = []
    for map_NHW in (first_NHW, second_NHW):
        rank_NP = rankdata(map_NHW.reshape(len(map_NHW), -1), axis=1)
        ranks.append(rank_NP - rank_NP.mean(axis=1, keepdims=True))
    first_NP, second_NP = ranks
    scale_N = np.sqrt((first_NP**2).sum(axis=1) * (second_NP**2).sum(axis=1))
    products_N = (first_NP * second_NP).sum(axis=1)
    both_flat_N = ~(first_NP.any(axis=1) | second_NP.any(axis=1))
    return np.where(both_flat_N, np.nan, products_N / np.where(scale_N > 0, scale_N, 1))


def report(rows: Sequence[Row], resolution: tuple[int, int]) -> str:
    """The table in words, for the terminal.

    Args:
      rows: of `cascade`.
      resolution: of the maps, `Explainer.resolution`.
    """
    cells = f"{resolution[0]} x {resolution[1]} values"
    lines = [
        f"sanity check on maps of {cells}: stages drawn anew from the head down, and the rank"
        " correlation of the maps with the trained network's (1 is the same map, and 0 also where"
        " one of the two is the same everywhere)"
    ]
    for row in rows:
        value = "not available" if row.correlation is None else f"{row.correlation:6.3f}"
        lines.append(f"  down to {row.stage:<12} {value}  (mean of {row.count} images)")
    lines.append(_verdict(rows[-1].correlation, resolution, cells))
    return "\n".join(lines)


def _verdict(last: float | None, resolution: tuple[int, int], cells: str) -> str:
    if min(resolution) < MIN_CELLS:
        return (
            f"not decided: maps of {cells} are too coarse to tell; explain by an earlier --stage,"
            " or a model of larger images"
        )
    if last is None:
        return "not decided: the maps are the same everywhere, before and after"
    if last > SUSPICIOUS:
        return (
            f"FAILED: with no learned weight left the maps still agree to {last:.2f} (above "
            f"{SUSPICIOUS}); they say little of what was learned"
        )
    return f"passed: with no learned weight left the maps agree to {last:.2f}"
