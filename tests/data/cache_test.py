"""The same records from the map as from the source, decoded once, and never from half a file."""

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import threading
import time
import types
from concurrent import futures

import grain
import numpy as np
import pytest

from skinjax.data import cache, pipeline
from skinjax.errors import InputError


class MemorySource:
    """`size` random images of 6 pixels; knows how often each was read, and fails where told."""

    def __init__(self, size=20, side=6, dtype=np.uint8, fails_at=None, delay=0.0):
        rng = np.random.default_rng(0)
        self.image_NHWC = rng.integers(0, 256, (size, side, side, 3)).astype(dtype)
        self.label_N = rng.integers(0, 7, size).astype(np.int32)
        self.times_N = np.zeros(size, int)
        self.fails_at = fails_at
        self.delay = delay

    def __len__(self):
        return len(self.label_N)

    def __getitem__(self, index):
        if index == self.fails_at:
            raise OSError(errno.EIO, "cannot be read")
        time.sleep(self.delay)
        self.times_N[index] += 1
        return {"image": self.image_NHWC[index], "label": self.label_N[index]}

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class UnreadableSource(MemorySource):
    def __getitem__(self, index):
        raise AssertionError(f"record {index} was decoded again")


def assert_same_records(found, source):
    assert len(found) == len(source)
    for row, record in enumerate(found.__getitems__(range(len(source)))):
        assert set(record) == {"image", "label"}
        assert (record["image"].dtype, type(record["image"])) == (np.uint8, np.ndarray)
        assert isinstance(record["label"], np.int32)
        np.testing.assert_array_equal(record["image"], source.image_NHWC[row])
        assert record["label"] == source.label_N[row]


def test_holds_the_same_records_and_decodes_each_once(tmp_path):
    source = MemorySource()
    assert_same_records(cache.cached(source, tmp_path / "new" / "cache", 6), source)
    assert set(source.times_N.tolist()) == {1}
    assert sorted(path.name for path in (tmp_path / "new" / "cache").iterdir()) == [
        "images.npy",
        "labels.npy",
    ]


def test_a_second_opening_decodes_nothing(tmp_path):
    cache.cached(MemorySource(), tmp_path / "cache", 6)
    assert_same_records(cache.cached(UnreadableSource(), tmp_path / "cache", 6), MemorySource())


def test_any_kind_of_index_and_none_outside(tmp_path):
    source = cache.cached(MemorySource(), tmp_path / "cache", 6)
    order_B = np.array([3, 0, 3])
    batch = source.__getitems__(order_B)
    assert [record["label"] for record in batch] == [MemorySource().label_N[i] for i in (3, 0, 3)]
    assert source[np.int64(4)]["label"] == MemorySource().label_N[4]
    assert source.__getitems__([]) == []
    for wrong in (-1, 20):
        with pytest.raises(IndexError, match=f"index {wrong} of 20 images"):
            source[wrong]
    assert len(list(source)) == 20  # iteration ends


def test_images_cannot_be_overwritten(tmp_path):
    record = cache.cached(MemorySource(), tmp_path / "cache", 6)[0]
    with pytest.raises(ValueError, match="read-only"):
        record["image"][0] = 0


def test_survives_pickling_and_carries_no_pixels(tmp_path):
    source = MemorySource(2000)
    data = pickle.dumps(cache.cached(source, tmp_path / "cache", 6))
    assert len(data) < 1000
    assert_same_records(pickle.loads(data), source)


def test_is_read_by_several_threads(tmp_path):
    source = MemorySource(200)
    found = cache.cached(source, tmp_path / "cache", 6)
    rows = np.random.default_rng(1).integers(0, 200, 1000).tolist()
    with futures.ThreadPoolExecutor(8) as executor:
        for row, record in zip(rows, executor.map(found.__getitem__, rows), strict=True):
            np.testing.assert_array_equal(record["image"], source.image_NHWC[row])


def test_gives_the_pipeline_the_same_batches(tmp_path):
    source = MemorySource()
    found = cache.cached(source, tmp_path / "cache", 6)
    plain, mapped = (
        iter(pipeline.train_dataset(one, batch_size=8, seed=0, num_threads=2))
        for one in (source, found)
    )
    for _ in range(5):
        expected, batch = next(plain), next(mapped)
        for key, array in expected.items():
            np.testing.assert_array_equal(batch[key], array)
    assert isinstance(mapped, grain.DatasetIterator)


def test_an_empty_source_is_returned_as_it_is(tmp_path):
    source = MemorySource(0)
    assert cache.cached(source, tmp_path / "cache", 6) is source
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_file_that_was_cut_is_refused(tmp_path, name, keep):
    cache.cached(MemorySource(), tmp_path / "cache", 6)
    path = tmp_path / "cache" / name
    data = path.read_bytes()
    path.write_bytes(data[:keep])
    with pytest.raises(InputError, match=r"is not whole \(.*\): delete .*cache to have") as raised:
        cache.cached(UnreadableSource(), tmp_path / "cache", 6)
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    cache.cached(MemorySource(), tmp_path / "cache", 6)
    (tmp_path / "cache" / "labels.npy").unlink()
    with pytest.raises(InputError, match=r"labels.npy is missing: delete .*cache to have"):
        cache.cached(UnreadableSource(), tmp_path / "cache", 6)


@pytest.mark.parametrize("wrong", [{"size": 19}, {"side": 5}])
def test_a_cache_of_other_images_is_refused(tmp_path, wrong):
    cache.cached(MemorySource(**wrong), tmp_path / "cache", wrong.get("side", 6))
    expected = r"images.npy holds uint8 .*, expected uint8 \(20, 6, 6, 3\): delete"
    with pytest.raises(InputError, match=expected):
        cache.cached(MemorySource(), tmp_path / "cache", 6)


@pytest.mark.parametrize("wrong", [{"side": 5}, {"dtype": np.float32}])
def test_images_of_another_kind_are_refused_and_leave_nothing(tmp_path, wrong):
    with pytest.raises(InputError, match=r"image 0 to be cached is .*; expected uint8 \(6, 6, 3\)"):
        cache.cached(MemorySource(**wrong), tmp_path / "cache", 6)
    assert list(tmp_path.iterdir()) == []


def test_an_error_half_way_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="cannot be read"):
        cache.cached(MemorySource(fails_at=11), tmp_path / "cache", 6)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_space_is_told_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2159))
    with pytest.raises(OSError, match=r"20 decoded images of 6 px .* take .* are free") as raised:
        cache.cached(UnreadableSource(), tmp_path / "cache", 6)
    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2160))
    cache.cached(MemorySource(), tmp_path / "cache", 6)


def _cache_slowly(path):
    cache.cached(MemorySource(delay=0.2), path, 6)


def test_a_killed_run_leaves_nothing_that_is_read(tmp_path):
    # No fork: pytest's process has threads.
    process = multiprocessing.get_context("spawn").Process(
        target=_cache_slowly, args=(tmp_path / "cache",)
    )
    process.start()
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.building-*/images.npy")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "cache").exists()
    assert list(tmp_path.glob(".*.building-*"))

    source = MemorySource()
    assert_same_records(cache.cached(source, tmp_path / "cache", 6), source)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_two_at_once_decode_once(tmp_path):
    sources = [MemorySource(delay=0.005) for _ in range(2)]
    start = threading.Barrier(2)

    def open_one(source):
        start.wait()
        return cache.cached(source, tmp_path / "cache", 6)

    with futures.ThreadPoolExecutor(2) as executor:
        for found in executor.map(open_one, sources):
            assert_same_records(found, MemorySource())
    assert sum(source.times_N.sum() for source in sources) == 20


def test_a_batch_is_copied_out_of_the_file(tmp_path):
    source = MemorySource()
    found = cache.cached(source, tmp_path / "cache", 6)
    batch = found.load([3, 0, 3])
    assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
    np.testing.assert_array_equal(batch["image"], source.image_NHWC[[3, 0, 3]])
    np.testing.assert_array_equal(batch["label"], source.label_N[[3, 0, 3]])
    batch["image"][:] = 0  # the caller's own
    assert_same_records(found, source)
    for wrong in (-1, 20):
        with pytest.raises(IndexError, match=f"indices {wrong} to {wrong} of 20 images"):
            found.load([wrong])
