"""Copies among images: the same bytes, and the same photograph by a perceptual hash."""

import collections
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np

from skinjax.data import threads
from skinjax.data.records import LeftOut, Record
from skinjax.errors import InputError

# Of the 512 bits of a hash: two views of the image, 256 bits each.
_HEX_DIGITS = 128
_SIDE = 32  # pixels of the thumbnail that is transformed
_LUMINANCE_BITS = 192
_COLOUR_BITS = 32  # of red, and as many of blue

# 256 bits are 16 bands of 16. Two views that differ in at most 31 bits differ in at most 1 bit in
# some band, so whoever looks up every band and its 16 neighbours finds all such pairs.
_BANDS = 16
MAX_DISTANCE = 2 * _BANDS - 1

_FREQUENCIES = 20  # that the lowest bits need, in each direction
_SCALE = 1024  # of the cosines
# The strongest wave of an image has at least this amplitude, in levels of 255; of the dermoscopy
# images measured, the flattest has 2.4. Below, a hash is made of noise, or is the same for all.
_MIN_AMPLITUDE = 0.5
_MIN_WAVE = _MIN_AMPLITUDE / 2 * 1000 * _SCALE**2 * 4 * _SIDE**2

_CHUNK = 1 << 19  # pairs that are compared at a time
_MAX_PAIRS = 200_000


def exact(digest_N: Sequence[str]) -> list[list[int]]:
    """Groups of images with the same digest: positions in rising order, '' (unknown) is skipped."""
    groups = collections.defaultdict(list)
    for index, digest in enumerate(digest_N):
        if digest:
            groups[digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def to_drop(copies: Sequence[Sequence[int]], records: Sequence[Record]) -> list[LeftOut]:
    """All but the first of the copies under one label, and all of those under several."""
    left_out = []
    for group in copies:
        first = records[group[0]].image_id
        if len({records[index].label for index in group}) > 1:
            ids = ", ".join(records[index].image_id for index in group)
            reason = f"copies under several labels: {ids}"
            left_out += [LeftOut(records[index].image_id, reason) for index in group]
        else:
            reason = f"a copy of another image: {first}"
            left_out += [LeftOut(records[index].image_id, reason) for index in group[1:]]
    return left_out


def perceptual_hash(image_HWC: np.ndarray) -> str:
    """A hash that the copies of a photograph nearly share, for `near`; 128 hex digits.

    The signs of the lowest DCT coefficients of a 32 x 32 thumbnail, after Zauner (2010),
    "Implementation and benchmarking of perceptual image hash functions", but 192 of luminance and
    2 x 32 of colour: dermoscopy shows a blob in the middle, and 64 bits of luminance tell blobs
    apart badly. All this twice: of the whole image, and of the middle three quarters of its width,
    since the field's photographs are 4:3 and circulate both squashed and cropped to a square.

    The transform is computed in whole numbers, so that no rounding differs between machines.

    Args:
      image_HWC: uint8 RGB, of any size; it takes 0.1 to 0.2 ms.

    Returns:
      '' for an image without contrast, which is like any other such image.
    """
    # Straight to the thumbnail, averaging, takes 0.8 ms of a 600 x 450 image; this takes 0.1 ms of
    # any, and what it skips is averaged out by the waves, which span the image.
    sample_HWC = cv2.resize(image_HWC, (8 * _SIDE, 2 * _SIDE), interpolation=cv2.INTER_LINEAR)
    thumbnail_HWC = cv2.resize(sample_HWC, (4 * _SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    rows_FH, columns_WG = _waves()
    colour_CHW = thumbnail_HWC.transpose(2, 0, 1).astype(np.float64)
    wave_CFG = rows_FH @ colour_CHW @ columns_WG
    wave_PFG = (_PLANES @ wave_CFG.reshape(3, -1)).reshape(wave_CFG.shape)
    wave_VB = wave_PFG[_places()].reshape(2, -1)
    flat_V = np.abs(wave_VB).max(axis=1) < _MIN_WAVE
    if flat_V[0]:
        return ""
    return np.packbits((wave_VB > 0) & ~flat_V[:, None]).tobytes().hex()


def near(hash_N: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, of images that show the same photograph, by their perceptual hashes.

    Found are copies that were rescaled, squashed or cropped to a square, recompressed, or slightly
    brightened or tinted. Not found are mirrored and rotated ones, and other crops that cut more
    than about 2 % from a side. Two views of at most 31 of 256 different bits are the same.

    Images of the same hash are each paired with the first of them only; and where there are more
    than 200,000 pairs, those are left out that are not needed to connect the same images.

    Args:
      hash_N: hashes from `perceptual_hash`; '' (unknown) is skipped.

    Raises:
      InputError: a hash is none of `perceptual_hash`.
    """
    firsts: dict[str, int] = {}
    twins = []
    for index, text in enumerate(hash_N):
        if text and firsts.setdefault(text, index) != index:
            twins.append((firsts[text], index))
    if not firsts:
        return []
    view_MB = _views(firsts)
    image_M = np.repeat(np.fromiter(firsts.values(), np.int64), 2)
    firsts.clear()
    told_M = view_MB.any(axis=1)  # nothing but zeros is a middle without contrast
    task = functools.partial(_pairs, view_MB[told_M], image_M[told_M])
    neighbours = (0, *(1 << bit for bit in range(_BANDS)))
    found = _Pairs(len(hash_N))
    look_ups = itertools.product(range(_BANDS), neighbours)
    # A generator, so that a task knows what was connected when it was handed out.
    for pair_P2 in threads.map_in_order(task, ((found.root_N, *at) for at in look_ups)):
        found.add(pair_P2)
    return sorted([*twins, *((one, other) for one, other in found.pair_P2.tolist())])


class _Pairs:
    """Pairs of images, each once; of too many, those that connect the same images without a ring.

    `root_N` names the group of each image, as far as groups had to be made.
    """

    def __init__(self, num_images: int, known_N: np.ndarray | None = None):
        self.pair_P2 = np.empty((0, 2), np.int64)
        self.root_N = np.arange(num_images) if known_N is None else known_N
        self._known_N = self.root_N

    def add(self, pair_P2: np.ndarray) -> None:
        """Adds pairs (i, j), i < j; those within a group add nothing."""
        for group_N in (self._known_N, self.root_N):
            pair_P2 = pair_P2[group_N[pair_P2[:, 0]] != group_N[pair_P2[:, 1]]]
        if not len(pair_P2):
            return
        pair_P2 = np.concatenate([self.pair_P2, pair_P2])
        # By one number, since np.unique over rows is slow.
        size = len(self.root_N)
        number_P = np.unique(pair_P2[:, 0] * size + pair_P2[:, 1])
        self.pair_P2 = np.stack(np.divmod(number_P, size), axis=1)
        if len(self.pair_P2) > _MAX_PAIRS:
            self._thin()

    def _thin(self) -> None:
        roots = list(range(len(self.root_N)))

        def root(image: int) -> int:
            while roots[image] != image:
                roots[image] = image = roots[roots[image]]
            return image

        kept = []
        for one, other in self.pair_P2.tolist():
            root_of_one, root_of_other = root(one), root(other)
            if root_of_one != root_of_other:
                roots[root_of_other] = root_of_one
                kept.append((one, other))
        self.pair_P2 = np.array(kept, np.int64)
        self.root_N = np.array([root(image) for image in range(len(roots))])


# Rows: luminance (ITU-R BT.601, in thousandths), and red and blue less luminance.
_PLANES = np.array([[299, 587, 114], [701, -587, -114], [-299, -587, 886]], np.float64)


@functools.cache
def _waves() -> tuple[np.ndarray, np.ndarray]:
    """The lowest cosines of the DCT as whole numbers: (F, 32) down, (128, 2F) across both views.

    Sums of their products with pixels stay below 2**53, so that doubles hold them exactly, in
    whatever order they are added; and a constant's sum is 0.
    """
    frequency_F1 = np.arange(_FREQUENCIES)[:, None]
    position_1H = np.arange(_SIDE)[None] + 0.5
    wave_FH = np.rint(_SCALE * np.cos(np.pi / _SIDE * frequency_F1 * position_1H))
    middle_FW = np.pad(wave_FH.repeat(3, axis=1), ((0, 0), (_SIDE // 2, _SIDE // 2)))
    columns_GW = np.concatenate([wave_FH.repeat(4, axis=1), middle_FW])
    return wave_FH, np.ascontiguousarray(columns_GW.T)


@functools.cache
def _places() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plane, row and column of the wave behind each of the 512 bits."""
    everywhere = itertools.product(range(_FREQUENCIES), repeat=2)
    _, *lowest = sorted(everywhere, key=lambda at: (sum(at), at))  # the first is the mean
    places = [(0, *at) for at in lowest[:_LUMINANCE_BITS]]
    places += [(plane, *at) for plane in (1, 2) for at in lowest[:_COLOUR_BITS]]
    # Low frequencies differ least between photographs, so every band gets some of them.
    places = [place for band in range(_BANDS) for place in places[band::_BANDS]]
    plane_B, row_B, column_B = np.array(places).T
    both = np.concatenate([column_B, column_B + _FREQUENCIES])
    return np.tile(plane_B, 2), np.tile(row_B, 2), both


def _views(hashes: Iterable[str]) -> np.ndarray:
    """uint16 (M, 16): the two views of each hash, one after the other, in bands."""
    for text in hashes:
        if len(text) != _HEX_DIGITS or not set(text) <= set("0123456789abcdef"):
            raise InputError(
                f"{text[:20]!r} ({len(text)} characters) is no perceptual hash: expected"
                f" {_HEX_DIGITS} hex digits; compute it anew"
            )
    return np.frombuffer(bytes.fromhex("".join(hashes)), np.uint16).reshape(-1, _BANDS)


def _pairs(
    view_MB: np.ndarray, image_M: np.ndarray, task: tuple[np.ndarray, int, int]
) -> np.ndarray:
    """int64 (P, 2): pairs of images with near views whose bands differ in these bits exactly."""
    known_N, band, difference = task
    order_M = np.argsort(view_MB[:, band], kind="stable")
    key_M = view_MB[order_M, band].astype(np.int64)
    word_WM = np.ascontiguousarray(view_MB.view(np.uint64)[order_M].T)
    image_M = image_M[order_M]
    end_K = np.cumsum(np.bincount(key_M, minlength=1 << 16))
    other_M = key_M ^ difference
    stop_M = end_K[other_M]
    if difference:
        start_M = np.where(key_M < other_M, end_K[other_M - 1], stop_M)
    else:
        start_M = np.arange(1, len(key_M) + 1)
    found = _Pairs(len(known_N), known_N)
    for first_C, second_C in _candidates(start_M, stop_M):
        # Two of the four words leave next to nothing to be compared in full.
        for words in (slice(0, 2), slice(0, 4)):
            difference_WC = word_WM[words, first_C] ^ word_WM[words, second_C]
            distance_C = np.bitwise_count(difference_WC).sum(axis=0, dtype=np.int64)
            first_C, second_C = (at[distance_C <= MAX_DISTANCE] for at in (first_C, second_C))
        pair_C2 = np.sort(np.stack([image_M[first_C], image_M[second_C]], axis=1), axis=1)
        found.add(pair_C2)
    return found.pair_P2


def _candidates(start_M: np.ndarray, stop_M: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every m with every number from start to stop of m, about `_CHUNK` pairs at a time."""
    count_M = stop_M - start_M
    end_M = np.cumsum(count_M)
    at = 0
    while at < len(count_M):
        done = end_M[at - 1] if at else 0
        # At least one, whose partners are no more than there are views.
        after = max(at + 1, int(np.searchsorted(end_M, done + _CHUNK, side="right")))
        count_m = count_M[at:after]
        first_C = np.repeat(np.arange(at, after), count_m)
        offset_C = np.repeat(start_M[at:after] - (end_M[at:after] - count_m - done), count_m)
        yield first_C, offset_C + np.arange(len(first_C))
        at = after
