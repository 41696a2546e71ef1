"""Pictures of a painted lesion: framing, light, lens and litter, which ignore its class."""

import cv2
import numpy as np


def photograph(rng: np.random.Generator, painting_HWC: np.ndarray, size: int) -> np.ndarray:
    """Takes one picture of a painting: uint8 (size, size, 3) RGB, lit, framed and littered anew."""
    image_HWC = _framed(rng, painting_HWC, size)
    if rng.random() < 0.3:
        image_HWC = _with_hair(rng, image_HWC)
    if rng.random() < 0.12:
        image_HWC = _with_ruler(rng, image_HWC)
    image_HWC = cv2.GaussianBlur(image_HWC, (0, 0), rng.uniform(0.25, 0.8) * size / 128)
    image_HWC = image_HWC * _light(rng, size)
    if rng.random() < 0.2:
        image_HWC = _with_bubbles(rng, image_HWC)
    if rng.random() < 0.15:
        image_HWC = image_HWC * _dark_corners(rng, size)
    noise = rng.standard_normal(image_HWC.shape, np.float32) * rng.uniform(0.004, 0.02)
    return (np.clip(image_HWC + noise, 0, 1) * 255).round().astype(np.uint8)


def _framed(rng: np.random.Generator, painting_HWC: np.ndarray, size: int) -> np.ndarray:
    side = len(painting_HWC)
    turn, zoom = rng.uniform(0, 360), rng.uniform(0.9, 1.15)
    matrix = np.asarray(cv2.getRotationMatrix2D((side / 2, side / 2), turn, zoom), np.float64)
    matrix[:, 2] += (size - side) / 2 + rng.normal(0, 0.03 * size, 2)
    return cv2.warpAffine(painting_HWC, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)


def _light(rng: np.random.Generator, size: int) -> np.ndarray:
    """Gain (size, size, 3): exposure, white balance, a slope and a fall-off from the centre."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0, 0.15) * (x * np.cos(angle) + y * np.sin(angle))
    fall_off = rng.uniform(0, 0.15) * (x**2 + y**2)
    white_balance = np.exp(rng.normal(0, (0.03, 0.06, 0.07))).astype(np.float32)
    return (rng.uniform(0.8, 1.15) * (1 + slope - fall_off))[..., None] * white_balance


def _dark_corners(rng: np.random.Generator, size: int) -> np.ndarray:
    """The round field of a dermatoscope, (size, size, 1): 1 inside, near 0 in the corners."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    shift = rng.normal(0, 0.06, 2)
    distance = np.hypot(x - shift[0], y - shift[1])
    edge = (rng.uniform(0.95, 1.3) - distance) / rng.uniform(0.01, 0.08)
    return (0.03 + 0.97 / (1 + np.exp(-np.clip(edge, -30, 30))))[..., None].astype(np.float32)


def _with_hair(rng: np.random.Generator, image_HWC: np.ndarray) -> np.ndarray:
    size = len(image_HWC)
    layer: np.ndarray = np.zeros((size, size), np.float32)
    direction = rng.uniform(0, 2 * np.pi)
    t = np.linspace(-1, 1, 12)[:, None]
    for _ in range(rng.integers(3, 22)):
        angle = direction + rng.normal(0, 0.6)
        along = np.array([np.cos(angle), np.sin(angle)])
        bend = rng.normal(0, 0.15) * t**2 * along[::-1] * (1, -1)
        points = size * (rng.uniform(0, 1, 2) + rng.uniform(0.1, 0.5) * (t * along + bend))
        width = max(1, round(rng.uniform(0.5, 1.3) * size / 128))
        corners = np.round(points * 16).astype(np.int32)[:, None]
        cv2.polylines(layer, [corners], False, rng.uniform(0.5, 1.0), width, cv2.LINE_AA, 4)
    colour = rng.choice([0.1, 0.15, 0.25]) * np.array([1.2, 1.0, 0.9], np.float32)
    return _covered(image_HWC, rng.uniform(0.6, 0.95) * layer, colour)


def _with_ruler(rng: np.random.Generator, image_HWC: np.ndarray) -> np.ndarray:
    size = len(image_HWC)
    layer: np.ndarray = np.zeros((size, size), np.float32)
    step = size * rng.uniform(0.04, 0.09)
    base = size * rng.uniform(0.85, 0.97)
    for number in range(int(size / step) + 1):
        length = size * (0.07 if number % 5 == 0 else 0.04)
        ends = np.array([[number * step, base], [number * step, base - length]])
        corners = np.round(ends * 16).astype(np.int32)[:, None]
        cv2.polylines(layer, [corners], False, 1.0, max(1, size // 128), cv2.LINE_AA, 4)
    layer = np.rot90(layer, int(rng.integers(4)))
    return _covered(image_HWC, 0.8 * layer, np.full(3, 0.15, np.float32))


def _with_bubbles(rng: np.random.Generator, image_HWC: np.ndarray) -> np.ndarray:
    """Air in the immersion gel: rings that are bright on one side, and their reflections."""
    size = len(image_HWC)
    layer: np.ndarray = np.zeros((size, size), np.float32)
    for _ in range(rng.integers(1, 9)):
        centre = np.round(rng.uniform(0, size, 2) * 16).astype(int).tolist()
        radius = round(size * rng.uniform(0.008, 0.035) * 16)
        start = rng.uniform(0, 360)
        cv2.ellipse(
            layer, centre, (radius, radius), 0, start, start + rng.uniform(120, 300),
            rng.uniform(0.3, 0.8), max(1, size // 128), cv2.LINE_AA, 4,
        )  # fmt: skip
    layer = cv2.GaussianBlur(layer, (0, 0), size / 256)
    return _covered(image_HWC, layer, np.full(3, 0.95, np.float32))


def _covered(image_HWC: np.ndarray, coverage_HW: np.ndarray, colour: np.ndarray) -> np.ndarray:
    alpha = coverage_HW[..., None]
    return image_HWC * (1 - alpha) + colour * alpha
