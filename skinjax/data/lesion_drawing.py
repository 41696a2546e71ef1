"""Draws dermoscopy-like images: a lesion painted once on its skin, then photographed many times.

Skin is a pale reflector under two absorbers, melanin (brown) and haemoglobin (red), and a lesion is
a pattern of both under a few opaque structures (scar, scale, veil). `lesion_appearance.py` says how
much of each a class has; `lesion_photograph.py` adds what does not depend on the class.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from skinjax.data.lesion_appearance import Appearance, Range

# Absorption per unit of density in R, G, B: only their ratios matter, as densities are made up.
_MELANIN = np.array([0.55, 1.0, 1.3], np.float32)
_BLOOD = np.array([0.22, 1.25, 0.75], np.float32)
_PALE_SKIN = np.array([0.95, 0.82, 0.78], np.float32)
_WHITE = np.array([0.93, 0.84, 0.84], np.float32)
_KERATIN = np.array([0.88, 0.78, 0.56], np.float32)
_BLUE_GREY = np.array([0.45, 0.46, 0.54], np.float32)


@dataclass
class _Canvas:
    """A lesion being painted. Lengths are in pixels; `depth` is 0 at its centre, 1 at its edge."""

    melanin: np.ndarray
    blood: np.ndarray
    covers: list[tuple[np.ndarray, np.ndarray]]  # opaque layers: coverage (H, W), colour (3,)
    depth: np.ndarray
    inside: np.ndarray
    radius: float
    unit: float  # one hundredth of the photograph's side

    def places(self, rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
        """Returns `count` points (x, y) whose depth is between `low` and `high`."""
        flat = np.flatnonzero((self.depth >= low) & (self.depth <= high))
        if not len(flat):
            flat = np.array([self.depth.argmin()])
        return np.stack(np.divmod(rng.choice(flat, count), len(self.depth))[::-1], 1)


def paint(rng: np.random.Generator, appearance: Appearance, size: int) -> np.ndarray:
    """Paints one lesion on its skin: float32 (1.5 size, 1.5 size, 3) reflectance in [0, 1]."""
    side = size * 3 // 2
    canvas = _blank_lesion(rng, appearance, side, size)
    for name, odds in appearance.structures.items():
        if rng.random() < odds:
            _STRUCTURES[name](rng, canvas)
    skin_melanin = rng.choice([0.03, 0.1, 0.2, 0.4]) + 0.02 * _noise(rng, side, size / 20)
    skin_blood = rng.uniform(0.02, 0.3) + 0.03 * _noise(rng, side, size / 10)
    skin_blood += 0.02 * _noise(rng, side, size / 40)
    melanin = np.maximum(canvas.melanin + skin_melanin, 0)[..., None]
    blood = np.maximum(canvas.blood + skin_blood, 0)[..., None]
    image_HWC = _PALE_SKIN * np.exp(-melanin * _MELANIN - blood * _BLOOD)
    for coverage, colour in canvas.covers:
        alpha = np.clip(coverage, 0, 1)[..., None]
        image_HWC = image_HWC * (1 - alpha) + colour * alpha
    return image_HWC.astype(np.float32)


def _blank_lesion(
    rng: np.random.Generator, appearance: Appearance, side: int, size: int
) -> _Canvas:
    radius = size * rng.uniform(0.18, 0.36)
    irregularity = rng.uniform(*appearance.irregularity)
    y, x = np.mgrid[:side, :side].astype(np.float32) - side / 2
    stretch = rng.uniform(0.75, 1.0)
    distance, angle = cv2.cartToPolar(x / stretch, y * stretch)
    edge = np.ones_like(distance)
    for k in range(2, 7):
        edge += (
            irregularity
            * rng.normal(0, 0.6)
            / np.sqrt(k)
            * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
        )
    depth = distance / radius / np.maximum(edge, 0.35)
    depth += irregularity * 0.5 * _noise(rng, side, radius / 3) * np.minimum(depth, 1)
    softness = rng.uniform(*appearance.softness)
    inside = 1 / (1 + np.exp(np.clip((depth - 1) / (0.4 * softness), -30, 30)))
    direction = rng.uniform(0, 2 * np.pi)
    slope = (x * np.cos(direction) + y * np.sin(direction)) / radius
    asymmetry = rng.uniform(*appearance.asymmetry)
    shade = 1 + 0.5 * asymmetry * np.clip(slope, -1, 1)
    shade += (0.12 + 0.35 * asymmetry) * _noise(rng, side, radius / 2)
    shade += 0.08 * _noise(rng, side, radius / 8)
    shade = np.maximum(shade, 0.1) * inside
    return _Canvas(
        melanin=rng.uniform(*appearance.melanin) * shade,
        blood=rng.uniform(*appearance.blood) * shade,
        covers=[],
        depth=depth,
        inside=inside,
        radius=radius,
        unit=size / 100,
    )


def _network(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Pigment network: a honeycomb of melanin with paler holes."""
    side = canvas.depth.shape[0]
    period = canvas.unit * rng.uniform(4.5, 7)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    x = x + 0.25 * period * _noise(rng, side, 2 * period)
    y = y + 0.25 * period * _noise(rng, side, 2 * period)
    waves = sum(
        np.cos((x * np.cos(a) + y * np.sin(a)) * 2 * np.pi / period)
        for a in rng.uniform(0, np.pi) + np.array([0, 2, 4]) * np.pi / 3
    )
    net = np.clip((0.8 - waves) / 1.6, -1, 1)  # 1 on the lines, -1 in the holes
    evenness = np.clip(0.8 + 0.4 * _noise(rng, side, canvas.radius), 0, 1)
    strength = rng.uniform(0.2, 0.6) * evenness
    canvas.melanin *= 1 + strength * net
    canvas.melanin += 0.15 * strength * np.maximum(net, 0) * canvas.inside


def _globules(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Brown dots, anywhere in the lesion."""
    dots = _dots(rng, canvas, _count(rng, 8, 30), (0.9, 2.2), 0.95)
    canvas.melanin += rng.uniform(0.5, 1.1) * dots


def _streaks(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Dark projections that cross the border outwards."""
    layer: np.ndarray = np.zeros(canvas.depth.shape, np.float32)
    centre = np.array(layer.shape) / 2
    for root in canvas.places(rng, _count(rng, 10, 28), 0.85, 1.0):
        outwards = (root - centre) / (np.linalg.norm(root - centre) + 1e-6)
        reach = outwards * canvas.radius * rng.uniform(0.1, 0.33)
        _line(layer, np.stack([root - 0.3 * reach, root + reach]), rng.uniform(1.0, 2.2), canvas)
    layer = cv2.GaussianBlur(layer, (0, 0), 0.8 * canvas.unit)
    canvas.melanin += rng.uniform(0.5, 1.1) * layer


def _veil(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Blue-white veil: a structureless haze over part of the lesion."""
    patch = _blob(canvas, canvas.places(rng, 1, 0.1, 0.6)[0], canvas.radius * rng.uniform(0.3, 0.6))
    patch *= 1 + 0.3 * _noise(rng, patch.shape[0], canvas.radius / 2)
    canvas.melanin += 0.5 * patch * canvas.inside
    canvas.covers.append((rng.uniform(0.45, 0.8) * patch * canvas.inside, _BLUE_GREY))


def _milia(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Milia-like cysts (pale dots) and comedo-like openings (brown plugs)."""
    plugs = _dots(rng, canvas, _count(rng, 4, 14), (1.2, 2.8), 0.9)
    canvas.melanin += rng.uniform(0.4, 0.8) * plugs
    cysts = _dots(rng, canvas, _count(rng, 6, 20), (1.3, 2.7), 0.9)
    canvas.covers.append((rng.uniform(0.5, 0.9) * cysts, _KERATIN))


def _vessels(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Arborizing vessels: thick red stems that branch into thin ones."""
    layer: np.ndarray = np.zeros(canvas.depth.shape, np.float32)
    for root in canvas.places(rng, _count(rng, 2, 5), 0.5, 1.1):
        stems = [(root, rng.uniform(0, 2 * np.pi), 2.0)]
        while stems:
            point, angle, width = stems.pop()
            steps = angle + np.cumsum(rng.normal(0, 0.35, 5))
            moves = np.stack([np.cos(steps), np.sin(steps)], 1) * canvas.radius * 0.13
            points = point + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])
            _line(layer, points, width, canvas)
            if width > 0.9:
                turns = rng.uniform(0.3, 1.0, 2) * (1, -1)
                stems += [(points[-1], steps[-1] + turn, 0.65 * width) for turn in turns]
    canvas.blood += rng.uniform(0.5, 1.2) * cv2.GaussianBlur(layer, (0, 0), 0.4 * canvas.unit)


def _nests(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Blue-grey ovoid nests."""
    layer = _dots(rng, canvas, _count(rng, 3, 9), (2.5, 5.5), 1.0)
    canvas.covers.append((rng.uniform(0.4, 0.8) * layer, _BLUE_GREY))


def _lacunae(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Red to purple lagoons, parted by paler walls."""
    lagoon = canvas.radius / canvas.unit
    layer = _dots(rng, canvas, _count(rng, 6, 16), (0.14 * lagoon, 0.30 * lagoon), 0.8)
    canvas.blood += rng.uniform(0.6, 1.4) * layer
    canvas.melanin += rng.uniform(0.1, 0.6) * layer


def _scar(rng: np.random.Generator, canvas: _Canvas) -> None:
    """A central white patch with no sharp edge."""
    patch = _blob(
        canvas, canvas.places(rng, 1, 0.0, 0.25)[0], canvas.radius * rng.uniform(0.35, 0.55)
    )
    patch *= np.clip(1 + 0.3 * _noise(rng, patch.shape[0], canvas.radius / 3), 0, 1.3)
    canvas.covers.append((rng.uniform(0.45, 0.85) * patch, _WHITE))


def _scale(rng: np.random.Generator, canvas: _Canvas) -> None:
    """White to yellow flakes."""
    side = canvas.depth.shape[0]
    flakes = _noise(rng, side, 3 * canvas.unit) + _noise(rng, side, 10 * canvas.unit)
    flakes = np.clip(flakes - 0.8, 0, 1)
    colour = _WHITE if rng.random() < 0.6 else _KERATIN
    canvas.covers.append((rng.uniform(0.4, 0.75) * flakes * canvas.inside, colour))


def _strawberry(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Red between pale follicles."""
    follicles = _dots(rng, canvas, _count(rng, 15, 40), (1.7, 2.9), 1.0)
    canvas.blood += rng.uniform(0.1, 0.4) * canvas.inside
    canvas.covers.append((rng.uniform(0.4, 0.7) * follicles, _WHITE))


_STRUCTURES: dict[str, Callable[[np.random.Generator, _Canvas], None]] = {
    "globules": _globules,
    "lacunae": _lacunae,
    "milia": _milia,
    "nests": _nests,
    "network": _network,
    "scale": _scale,
    "scar": _scar,
    "strawberry": _strawberry,
    "streaks": _streaks,
    "veil": _veil,
    "vessels": _vessels,
}


def _count(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high))


def _noise(rng: np.random.Generator, side: int, period: float) -> np.ndarray:
    """Smooth random field, float32 (side, side), standard deviation near 1, spots of `period`."""
    cells = max(4, int(np.ceil(side / period)) + 1)
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    return 1.3 * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def _dots(
    rng: np.random.Generator, canvas: _Canvas, count: int, radii: Range, depth: float
) -> np.ndarray:
    """Soft discs in [0, 1], their radii in hundredths of the photograph, no deeper than `depth`."""
    layer = np.zeros(canvas.depth.shape, np.float32)
    for point in canvas.places(rng, count, 0.0, depth):
        radius = rng.uniform(*radii) * canvas.unit
        _disc(layer, point, radius, rng.uniform(0.6, 1.0))
    return cv2.GaussianBlur(layer, (0, 0), 0.5 * canvas.unit)


def _blob(canvas: _Canvas, point: np.ndarray, radius: float) -> np.ndarray:
    """A round patch in [0, 1] that fades out around `radius`."""
    layer = np.zeros(canvas.depth.shape, np.float32)
    _disc(layer, point, radius, 1.0)
    return cv2.GaussianBlur(layer, (0, 0), 0.35 * radius)


# OpenCV takes integers with `shift` binary digits after the point: 1/16 of a pixel.
def _disc(layer: np.ndarray, point: np.ndarray, radius: float, value: float) -> None:
    centre = np.round(point * 16).astype(int).tolist()
    cv2.circle(layer, centre, round(radius * 16), value, -1, cv2.LINE_AA, 4)


def _line(layer: np.ndarray, points: np.ndarray, width: float, canvas: _Canvas) -> None:
    thickness = max(1, round(width * canvas.unit))
    corners = np.round(points * 16).astype(np.int32)[:, None]
    cv2.polylines(layer, [corners], False, 1.0, thickness, cv2.LINE_AA, 4)
