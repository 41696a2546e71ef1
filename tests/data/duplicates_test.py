"""Copies are found and nothing else is, on drawn images and on the real ones."""

import collections
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax.data import duplicates, images, threads
from skinjax.errors import InputError

GOLDEN = (
    "01e001ff03f503f503fa04700030003a001f019500d503c006ea002a05a503f0"
    "721f5c0f9c0f100f240f4c0bf40f29af685fb14f849f568a17ee51caee55c80f"
)
REAL = Path(__file__).parents[3] / "shared" / "data"


def photograph(seed, height=450, width=600):
    """Coloured blobs of all sizes: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    image_HWC = np.zeros((height, width, 3), np.float32)
    for side in (2, 4, 8, 16, 32):
        coarse = rng.normal(size=(side, side, 3)).astype(np.float32) / side**0.5
        image_HWC += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(130 + 30 * image_HWC, 0, 255).astype(np.uint8)


def changed(image_HWC, factor, offset):
    return np.clip(image_HWC * np.float32(factor) + offset, 0, 255).astype(np.uint8)


def jpeg(image_HWC, quality):
    return images.decode_bytes(images.encode_jpeg(image_HWC, quality))


COPIES = {
    "rescaled": lambda image: cv2.resize(image, (300, 225), interpolation=cv2.INTER_AREA),
    "enlarged": lambda image: cv2.resize(image, (1500, 1125), interpolation=cv2.INTER_CUBIC),
    "squashed": lambda image: images.resize(image, 224),
    "tiny": lambda image: images.resize(image, 64),
    "cropped to a square": lambda image: images.resize(image[:, 75:-75], 224),
    "recompressed": lambda image: jpeg(image, 40),
    "brightened": lambda image: changed(image, 1.1, 5),
    "less contrast": lambda image: changed(image, 0.8, 20),
    "tinted": lambda image: changed(image, [1.06, 1, 0.94], 0),
    "all at once": lambda image: jpeg(images.resize(changed(image, 1.05, 5), 180), 70),
}


def test_exact_groups_equal_digests_and_skips_unknown_ones():
    assert duplicates.exact(["b", "a", "", "b", "c", "", "a", "b"]) == [[0, 3, 7], [1, 6]]
    assert duplicates.exact([]) == []


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_among_other_photographs(name):
    originals = [photograph(seed) for seed in range(10)]
    copies = [COPIES[name](image) for image in originals]
    hashes = [duplicates.perceptual_hash(image) for image in originals + copies]
    assert duplicates.near(hashes) == [(index, index + 10) for index in range(10)]


def test_mirrored_and_rotated_copies_are_not_found():
    image = photograph(0)
    hashes = [duplicates.perceptual_hash(one) for one in (image, image[:, ::-1], image[::-1, ::-1])]
    assert duplicates.near(hashes) == []


def test_a_hash_is_the_same_on_every_machine():
    grid = np.arange(256, dtype=np.int64)
    plane = (grid[:, None] * grid * 7 // 64 + 3 * grid) % 256
    image = np.stack([plane, plane.T, (plane + plane.T) // 2], axis=2).astype(np.uint8)
    assert duplicates.perceptual_hash(image) == GOLDEN


def test_images_without_contrast_have_no_hash():
    for level in (0, 130, 255):
        assert duplicates.perceptual_hash(np.full((256, 256, 3), level, np.uint8)) == ""
    noise = np.random.default_rng(0).integers(128, 131, (256, 256, 3)).astype(np.uint8)
    assert duplicates.perceptual_hash(noise) == ""
    assert duplicates.near(["", ""]) == duplicates.near([]) == []


def test_images_with_nothing_in_the_middle_are_not_all_the_same():
    framed = []
    for seed in range(4):
        image = photograph(seed, 256, 256)
        image[:, 30:-30] = 90
        framed.append(duplicates.perceptual_hash(image))
    assert {text[64:] for text in framed} == {"0" * 64}
    assert duplicates.near(framed) == []


def test_grey_copies_of_grey_images_are_found():
    grey = [np.repeat(photograph(seed)[..., :1], 3, axis=2) for seed in range(10)]
    hashes = [duplicates.perceptual_hash(image) for image in grey + [jpeg(i, 60) for i in grey]]
    assert duplicates.near(hashes) == [(index, index + 10) for index in range(10)]


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (8, 8), (31, 129), (40, 64)])
def test_any_size_has_a_hash(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert len(duplicates.perceptual_hash(image)) in (0, 128)


def spread(seed, number, flips):
    """`number` hashes in clusters, with up to `flips` bits of each view turned over."""
    rng = np.random.default_rng(seed)
    bit_NB = rng.integers(0, 2, (max(1, number // 4), 512))[
        rng.integers(0, number // 4 + 1, number) // 2
    ]
    for bit_B in bit_NB:
        for half in (bit_B[:256], bit_B[256:]):
            half[rng.choice(256, rng.integers(0, flips + 1), replace=False)] ^= 1
    return [np.packbits(bit_B).tobytes().hex() for bit_B in bit_NB]


def compared_one_by_one(hashes):
    views = [[int(text[:64], 16), int(text[64:], 16)] for text in hashes]
    return [
        (i, j)
        for i, j in itertools.combinations(range(len(hashes)), 2)
        if min((a ^ b).bit_count() for a in views[i] for b in views[j]) <= duplicates.MAX_DISTANCE
    ]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.integers(4, 40), st.integers(0, 40))
def test_near_finds_exactly_the_pairs_within_the_distance(seed, number, flips):
    hashes = list(dict.fromkeys(spread(seed, number, flips)))
    assert duplicates.near(hashes) == compared_one_by_one(hashes)


@pytest.mark.parametrize(("distance", "is_found"), [(31, True), (32, False)])
def test_the_distance_is_exact_wherever_the_bits_lie(distance, is_found):
    rng = np.random.default_rng(0)
    for _ in range(5):
        bit_B = rng.integers(0, 2, 512)
        other_B = bit_B.copy()
        other_B[256:] = rng.integers(0, 2, 256)
        other_B[rng.choice(256, distance, replace=False)] ^= 1
        pair = [np.packbits(bits).tobytes().hex() for bits in (bit_B, other_B)]
        assert (duplicates.near(pair) == [(0, 1)]) is is_found


def test_equal_hashes_are_paired_with_the_first_so_that_many_do_no_harm():
    one, other = spread(0, 8, 0)[0], spread(1, 8, 0)[0]
    assert duplicates.near([other, one, one, "", one]) == [(1, 2), (1, 4)]
    assert len(duplicates.near([one] * 100_000)) == 99_999


def test_too_many_pairs_are_thinned_to_what_connects_them(monkeypatch):
    hashes = list(dict.fromkeys(spread(3, 120, 12)))
    whole = duplicates.near(hashes)
    monkeypatch.setattr(duplicates, "_MAX_PAIRS", 50)
    thinned = duplicates.near(hashes)
    assert len(thinned) < len(whole) / 3
    assert set(thinned) <= set(whole)
    assert components(len(hashes), thinned) == components(len(hashes), whole)


def hardest(seed, band, bit):
    """Two hashes that differ in 31 bits of the whole: in one of `band`, in two of every other."""
    rng = np.random.default_rng(seed)
    one_B, other_B = rng.integers(0, 2, (2, 512))
    other_B[:256] = one_B[:256]
    for of_band in range(16):
        at = [bit] if of_band == band else rng.choice(16, 2, replace=False)
        other_B[16 * of_band + np.array(at)] ^= 1
    return [np.packbits(bits).tobytes().hex() for bits in (one_B, other_B)]


def test_pairs_that_only_one_look_up_finds_are_found():
    hashes = [text for k in range(64) for text in hardest(k, k % 16, (k + k // 16) % 16)]
    assert duplicates.near(hashes) == [(2 * k, 2 * k + 1) for k in range(64)]


@pytest.mark.parametrize("chunk", [1, 3, 4, 1000])
def test_candidates_are_all_there_whatever_the_chunk(monkeypatch, chunk):
    monkeypatch.setattr(duplicates, "_CHUNK", chunk)
    start_M, stop_M = np.array([1, 2, 2, 0, 5, 7]), np.array([3, 2, 9, 1, 6, 8])
    expected = [(m, at) for m in range(6) for at in range(start_M[m], stop_M[m])]
    found = list(duplicates._candidates(start_M, stop_M))
    assert [pair for first, second in found for pair in zip(first, second, strict=True)] == expected
    assert all(len(first) <= max(chunk, 7) for first, _ in found)


def test_an_image_whose_views_look_alike_is_no_copy_of_itself():
    half = spread(0, 4, 0)[0][:64]
    assert duplicates.near([half + half]) == []


@pytest.mark.parametrize("wrong", ["ab", "g" * 128, "a" * 127, "a" * 129])
def test_what_is_no_hash_is_refused(wrong):
    with pytest.raises(InputError, match="is no perceptual hash: expected 128 hex digits"):
        duplicates.near(["a" * 128, wrong])


def components(number, pairs):
    """The first member of each image's group."""
    first = list(range(number))
    for _ in range(number):
        for one, other in pairs:
            first[one] = first[other] = min(first[one], first[other])
    return first


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real data in {REAL}")
def test_real_photographs_are_found_in_two_data_sets_and_no_others():
    """One image per lesion in HAM10000; ISIC 9 has 720 of them again, uncropped, at 180 px."""
    ham = sorted((REAL / "ham10000").rglob("*.jpg"))
    shared = {path.stem for path in ham}
    again = [path for path in sorted((REAL / "isic9").rglob("*.jpg")) if path.stem in shared]
    paths = ham + again
    hashes = list(
        threads.map_in_order(lambda p: duplicates.perceptual_hash(images.decode(p)), paths)
    )
    pairs = duplicates.near(hashes)
    first = components_of_real(len(paths), pairs)
    position = {path.stem: index for index, path in enumerate(ham)}
    found = sum(first[len(ham) + i] == first[position[path.stem]] for i, path in enumerate(again))
    assert len(again) == 753
    assert found >= 750
    within_ham = [pair for pair in pairs if pair[1] < len(ham)]
    assert within_ham == []
    assert max(collections.Counter(first).values()) <= 4


def components_of_real(number, pairs):
    first = list(range(number))
    for one, other in pairs:  # sorted, so one's own first is known
        first[other] = min(first[other], first[one])
    return first
