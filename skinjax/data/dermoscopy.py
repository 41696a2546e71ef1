"""Preprocessing of dermoscopic images: contrast, hair, the light's colour, the black border.

Each is a pure function from uint8 RGB (H, W, 3) to uint8 RGB and leaves its input alone. Each is
off unless a config asks for it: nobody has published a comparison by lesion, with confidence
intervals, of training with and without any of them.
"""

import math

import cv2
import numpy as np

# The size of image at which the parameters of hair removal were published, by its diagonal.
_HAIR_DIAGONAL = math.hypot(600, 450)
_HAIR_KERNEL = 17
_HAIR_THRESHOLD = 10

# Of the search for a black border, which is done on an image this long.
_FIELD_SIDE = 256
_DARKEST_SKIN = 60  # grey level; a border that is lighter isn't black
_LEAST_POINTS = 24  # of the field's edge
_LEAST_BORDER = 0.01  # of the image's area
_LEAST_KEPT = 0.25  # of the image's area
_MOST_SQUASHED = 1.8  # ratio of the axes: 16 : 9
_Ellipse = tuple[float, float, float, float]  # centre x and y, half its width, half its height
_TO_GREY = cv2.COLOR_RGB2GRAY


def clahe(image_HWC: np.ndarray, clip_limit: float = 2.0, tiles: int = 8) -> np.ndarray:
    """Equalises the local contrast of the lightness in CIELAB; the colours stay.

    Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994), as
    OpenCV has it. Known effect: one challenge winner used it, as augmentation only (clip limit 4,
    probability 0.7).

    Args:
      image_HWC: uint8 RGB.
      clip_limit: most that a bin of a tile's histogram may hold, in multiples of the mean.
      tiles: tiles along each side.
    """
    lab_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2LAB)
    lightness_HW = cv2.extractChannel(lab_HWC, 0)
    equalised_HW = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(lightness_HW)
    cv2.insertChannel(equalised_HW, lab_HWC, 0)
    return cv2.cvtColor(lab_HWC, cv2.COLOR_LAB2RGB)


def remove_hair(
    image_HWC: np.ndarray, threshold: int = _HAIR_THRESHOLD, radius: float = 1
) -> np.ndarray:
    """Finds dark thin structures and paints over them from their surroundings.

    After DullRazor (Lee et al., Computers in Biology and Medicine 27(6), 1997) in the usual OpenCV
    form: the black-hat of the grey image with a cross of 17 x 17 at 600 x 450 pixels, in proportion
    to the diagonal at other sizes; above the threshold is hair; inpainting after Telea (J. Graphics
    Tools 9(1), 2004).

    Known effect: no challenge winner is known to have used it, and the gains published are on
    leaky splits or synthetic hair. About 5 % of the pixels of hairless images count as hair too,
    among them dark lines of lesions.

    Args:
      image_HWC: uint8 RGB.
      threshold: grey levels by which hair is darker than its surroundings; more is hair.
      radius: of the inpainting, in pixels; 5 takes five times as long as 1.
    """
    side = hair_kernel_side(*image_HWC.shape[:2])
    kernel_KK = cv2.getStructuringElement(cv2.MORPH_CROSS, (side, side))
    grey_HW = cv2.cvtColor(image_HWC, _TO_GREY)
    hat_HW = cv2.morphologyEx(grey_HW, cv2.MORPH_BLACKHAT, kernel_KK)
    _, mask_HW = cv2.threshold(hat_HW, threshold, 255, cv2.THRESH_BINARY)
    return cv2.inpaint(image_HWC, mask_HW, radius, cv2.INPAINT_TELEA)


def hair_kernel_side(height: int, width: int) -> int:
    """Side of the black-hat's kernel for an image of this size: odd, 17 at 600 x 450, 3 or more."""
    return max(
        3, 2 * round((_HAIR_KERNEL * math.hypot(height, width) / _HAIR_DIAGONAL - 1) / 2) + 1
    )


def color_constancy(image_HWC: np.ndarray, power: float = 6) -> np.ndarray:
    """Scales the channels so that the light would be grey: Shades of Gray.

    The light is taken to have the colour of the Minkowski mean of each channel (Finlayson and
    Trezzi, Color Imaging Conference, 2004); the gains keep its length, as Barata et al. (IEEE J.
    Biomedical and Health Informatics 19(3), 2015) do for dermoscopy. Power 1 is Gray World. Known
    effect: the winners of ISIC 2018 and 2019 used it.

    Args:
      image_HWC: uint8 RGB.
      power: of the Minkowski mean; above zero.
    """
    count_CV = _histograms(image_HWC)
    level_V = np.arange(256) / 255
    light_C = (count_CV @ level_V**power / count_CV.sum(axis=1)) ** (1 / power)
    if not light_C.all():  # a channel that is all black can't be scaled to anything
        return image_HWC.copy()
    gain_C = np.linalg.norm(light_C) / (math.sqrt(3) * light_C)
    table_VC = np.clip(np.rint(np.arange(256)[:, None] * gain_C), 0, 255).astype(np.uint8)
    return cv2.LUT(image_HWC, table_VC[None])


def _histograms(image_HWC: np.ndarray) -> np.ndarray:
    """Pixels by channel and level: float64 (C, 256)."""
    return np.stack(
        [cv2.calcHist([image_HWC], [c], None, [256], [0, 256]).ravel() for c in range(3)]
    ).astype(np.float64)


def crop_border(image_HWC: np.ndarray, margin: float = 0.1) -> np.ndarray:
    """Crops to a dermoscope's round field of view, where the rest of the image is black.

    After the ISIC 2019 winner (Gessert et al., MethodsX 7, 2020; github.com/ngessert/isic2019):
    blur, Otsu's threshold, a circle fitted to the edge of what is lighter; or an ellipse, since
    many copies of the data sets were squashed to squares. The crop is its bounding box, smaller by
    the margin; the corners may still be black. An image whose surroundings aren't really dark, or
    aren't round, or of which too little would be left, stays as it is. Known effect: that winner
    used it, on the part of ISIC 2019 that has such borders.

    Args:
      image_HWC: uint8 RGB.
      margin: cut off each side of the bounding box, as a share of half its length; 0 to 0.5.
    """
    height, width = image_HWC.shape[:2]
    scale = min(1, _FIELD_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    grey_HW = cv2.cvtColor(image_HWC, _TO_GREY)
    grey_HW = cv2.resize(grey_HW, size, interpolation=cv2.INTER_AREA)
    field = _field_of_view(cv2.GaussianBlur(grey_HW, (5, 5), 0))
    if field is None:
        return image_HWC.copy()
    x, y, half_width, half_height = (value / scale for value in field)
    half_width, half_height = half_width * (1 - margin), half_height * (1 - margin)
    left, right = max(0, round(x - half_width)), min(width, round(x + half_width))
    top, bottom = max(0, round(y - half_height)), min(height, round(y + half_height))
    if (right - left) * (bottom - top) < _LEAST_KEPT * width * height:
        return image_HWC.copy()
    return image_HWC[top:bottom, left:right].copy()


def _field_of_view(grey_HW: np.ndarray) -> _Ellipse | None:
    """The light disc on black; None if there is none."""
    otsu, _ = cv2.threshold(grey_HW, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    # Otsu's threshold may lie between skin and lesion, or in a dark lesion's middle.
    threshold = min(otsu, _DARKEST_SKIN)
    field = _fit_ellipse(_edge_points(grey_HW > threshold))
    if field is None:
        return None
    rows_HW, columns_HW = np.ogrid[: grey_HW.shape[0], : grey_HW.shape[1]]
    x, y, half_width, half_height = field
    distance_HW = np.hypot((columns_HW - x) / half_width, (rows_HW - y) / half_height)
    outside, inside = grey_HW[distance_HW > 1.03], grey_HW[distance_HW < 0.97]
    if outside.size < _LEAST_BORDER * grey_HW.size or not inside.size:
        return None
    return field if outside.mean() < 0.5 * inside.mean() else None


def _edge_points(light_HW: np.ndarray) -> np.ndarray:
    """First and last light pixel of each row and column, without those at the image's edge."""
    points = []
    for lines, swapped in ((light_HW, False), (light_HW.T, True)):
        length = lines.shape[1]
        index = np.flatnonzero(lines.any(axis=1))
        first = lines[index].argmax(axis=1)
        last = length - 1 - lines[index, ::-1].argmax(axis=1)
        for found in (first, last):
            within = (found > 1) & (found < length - 2)
            pair = (index[within], found[within]) if swapped else (found[within], index[within])
            points.append(np.stack(pair, axis=1))
    return np.concatenate(points).astype(np.float64)


def _fit_ellipse(point_P2: np.ndarray) -> _Ellipse | None:
    """Least squares on x^2 = a x + b y + c - q y^2, thrice, each without outliers.

    Returns:
      The ellipse, or None where it is longer than images are squashed or fewer than two thirds of
      the points lie on it.
    """
    kept_P2, field = point_P2, (0.0, 0.0, 0.0, 0.0)
    for tolerance in (0.1, 0.05, 0.03):
        if len(kept_P2) < _LEAST_POINTS:
            return None
        x_P, y_P = kept_P2.T
        design_P4 = np.stack([x_P, y_P, np.ones(len(x_P)), -(y_P**2)], axis=1)
        (a, b, c, q), *_ = np.linalg.lstsq(design_P4, x_P**2, rcond=None)
        if not _MOST_SQUASHED**-2 <= q <= _MOST_SQUASHED**2:
            return None
        x, y = a / 2, b / (2 * q)
        half_width = math.sqrt(max(c + x**2 + q * y**2, 1))
        field = (float(x), float(y), half_width, half_width / math.sqrt(q))
        off_P = np.abs(np.hypot(*((point_P2 - field[:2]) / field[2:]).T) - 1)
        kept_P2 = point_P2[off_P < tolerance]
    return field if len(kept_P2) >= 2 / 3 * len(point_P2) else None
