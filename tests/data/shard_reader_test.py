"""The reader against TFDS's own, on shards that `shards.write` wrote."""

import pickle
from concurrent import futures

import cv2
import jax
import numpy as np
import pytest

from skinjax.data import image_store, pipeline, prepared, shard_reader, shards, sources
from skinjax.data.preprocess import Preprocess
from skinjax.errors import InputError


@pytest.fixture
def records(raw_dir):
    return sources.read_ham10000(raw_dir).records


@pytest.fixture
def make_store(records, tmp_path, monkeypatch):
    """A folder of several shards with these records, one of them without an image."""

    def make(encoding="jpeg"):
        monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 8 * 8 * 3)
        for record in records[5:10]:
            record.path.write_bytes(b"no image")
        spec = shards.Spec(tuple("abcdefg"), Preprocess(image_size=8), encoding, 8)
        digests = [str(number) for number in range(len(records))]
        runner = image_store.on_this_machine
        return image_store.build(tmp_path / "stores", records, digests, spec, runner).directory

    return make


@pytest.mark.parametrize("encoding", shards.ENCODINGS)
def test_reads_what_tfds_reads_to_the_byte(make_store, encoding):
    import tensorflow_datasets as tfds

    store = make_store(encoding)
    expected = list(tfds.builder_from_directory(str(store)).as_data_source(split="images"))
    reader = shards.open_shards(store)
    assert len(reader) == len(expected) == 30
    for found, example in zip(reader, expected, strict=True):
        assert set(found) == set(example)
        assert found["image"].dtype == np.uint8
        np.testing.assert_array_equal(found["image"], example["image"])
        assert (found["label"], found["image_id"]) == (example["label"], example["image_id"])
    order = np.random.default_rng(0).integers(0, 30, 50).tolist()
    batch = reader.load(order)
    np.testing.assert_array_equal(batch["image"], [expected[i]["image"] for i in order])
    np.testing.assert_array_equal(batch["label"], [expected[i]["label"] for i in order])
    assert (batch["image"].dtype, batch["label"].dtype) == (np.uint8, np.int32)
    ids = [example["image_id"] for example in reader.__getitems__(order)]
    assert ids == [expected[i]["image_id"] for i in order]


def test_records_of_a_long_shard_are_read_several_at_a_time(make_store, monkeypatch):
    store = make_store()
    expected = shards.open_shards(store).load(range(30))
    monkeypatch.setattr(shard_reader, "_RECORDS_OF_A_CALL", 2)  # 3 for a shard of 5
    reader = shards.open_shards(store)
    order = np.random.default_rng(0).permutation(30).tolist()
    calls = [len(records) for _, _, records in reader._records(order)]
    assert calls == [3, 2] * 6
    batch = reader.load(order)
    np.testing.assert_array_equal(batch["image"], expected["image"][order])
    np.testing.assert_array_equal(batch["label"], expected["label"][order])


def test_several_threads_read_at_once(make_store):
    reader = shards.open_shards(make_store())
    expected = reader.load(range(30))["image"]
    orders = [np.random.default_rng(seed).permutation(30).tolist() for seed in range(40)]
    reader = shards.open_shards(reader._shards[0][0].rsplit("/", 1)[0])  # nothing opened yet
    with futures.ThreadPoolExecutor(8) as executor:
        for order, batch in zip(orders, executor.map(reader.load, orders), strict=True):
            np.testing.assert_array_equal(batch["image"], expected[order])


def test_no_index_outside_is_read(make_store):
    reader = shards.open_shards(make_store())
    for wrong in (-1, 30):
        with pytest.raises(IndexError, match=f"indices from {wrong} to {wrong} of 30 examples"):
            reader[wrong]
    assert reader.__getitems__([]) == []
    assert reader.load([])["image"].shape == (0, 8, 8, 3)


def test_a_broken_image_is_named(make_store):
    reader = shards.open_shards(make_store("raw"))
    for shape, message in (((9, 9, 3), "192 bytes, expected 243"), ((8, 8, 3), "")):
        other = shard_reader.ShardReader(reader._shards, shape, "raw")
        if message:
            with pytest.raises(InputError, match=rf"image 7 in .*array_record.*: {message}"):
                other.load([7])
        else:
            other.load([7])
    for encoding in ("jpeg", "png"):
        with pytest.raises(InputError, match=r"image 0 in .*: OpenCV can't decode it"):
            shard_reader.ShardReader(reader._shards, (8, 8, 3), encoding).load([0])


def test_a_record_that_is_no_example_is_named(make_store, monkeypatch):
    store = make_store()
    reader = shards.open_shards(store)
    records = reader._records

    def broken(indices):
        return ((path, rows, [b"\xff"]) for path, rows, _ in records(indices))

    monkeypatch.setattr(reader, "_records", broken)
    with pytest.raises(InputError, match=r"image 7 in .*array_record.*: no TFDS example \("):
        reader.load([7])


def test_a_damaged_shard_is_not_decoded(make_store):
    store = make_store()
    path = sorted(store.glob("*array_record*"))[-1]
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xd8\xff") + 200
    data[at] ^= 0xFF
    path.write_bytes(bytes(data))
    source = prepared.ImageSource(store)
    with pytest.raises(InputError, match="can't be read"):
        source.__getitems__(list(range(30)))


def test_batches_come_to_jax_without_a_copy(make_store):
    reader = shards.open_shards(make_store())
    batch = next(iter(pipeline.train_dataset(reader, batch_size=4, seed=0, num_threads=1)))
    array = jax.device_put(batch["image"], jax.devices("cpu")[0])
    assert array.unsafe_buffer_pointer() == batch["image"].ctypes.data


def test_the_pipeline_gives_the_same_batches_with_and_without_load(make_store):
    reader = shards.open_shards(make_store())

    class ByRecords:
        def __len__(self):
            return len(reader)

        def __getitem__(self, index):
            return self.__getitems__([index])[0]

        def __getitems__(self, indices):
            examples = reader.__getitems__(indices)
            return [{"image": one["image"], "label": np.int32(one["label"])} for one in examples]

    assert isinstance(reader, pipeline.BatchSource)
    assert not isinstance(ByRecords(), pipeline.BatchSource)
    make = {"batch_size": 8, "seed": 3, "num_threads": 2}
    one, other = (iter(pipeline.train_dataset(s, **make)) for s in (reader, ByRecords()))
    for _ in range(6):
        expected, batch = next(one), next(other)
        assert set(batch) == set(expected)
        for key, array in expected.items():
            assert batch[key].dtype == array.dtype
            np.testing.assert_array_equal(batch[key], array)


def test_image_source_survives_pickling(make_store):
    source = pickle.loads(pickle.dumps(prepared.ImageSource(make_store())))
    assert source[3]["image"].shape == (8, 8, 3)


def test_decodes_into_a_row_of_any_array():
    from skinjax.data import images

    image_HWC = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    target = np.zeros((2, 8, 8, 3), np.uint8)
    images.decode_own(images.encode_png(image_HWC), target[1])
    np.testing.assert_array_equal(target[1], image_HWC)
    assert not target[0].any()
    grey = cv2.imencode(".png", image_HWC[..., 0])[1].tobytes()
    images.decode_own(grey, target[0])  # three channels, whatever is in the file
    with pytest.raises(InputError, match=r"shape \(8, 8, 3\), expected .* \(4, 4, 3\)"):
        images.decode_own(grey, np.zeros((4, 4, 3), np.uint8))


def test_subsets_and_metadata_load_the_same_batches_as_record_by_record(make_store):
    source = prepared.ImageSource(make_store())
    metadata_NM = np.arange(20, dtype=np.float32).reshape(10, 2)
    subset = prepared.Subset(source, np.arange(29, 19, -1))
    for found in (source, subset, prepared.WithMetadata(subset, metadata_NM)):
        assert isinstance(found, pipeline.BatchSource)
        records = found.__getitems__([7, 2, 7])
        batch = pipeline.load(found, [7, 2, 7])
        assert set(batch) == set(records[0])
        for key, array in batch.items():
            np.testing.assert_array_equal(array, [record[key] for record in records])
    with pytest.raises(IndexError, match="indices from 10 to 10 of 10 images"):
        subset.load([10])


def test_loading_says_what_is_wrong_with_the_shards(make_store):
    store = make_store()
    source = prepared.ImageSource(store)
    for path in store.glob("*array_record*"):
        path.unlink()
    with pytest.raises(InputError, match=r"the prepared images in .* can't be read"):
        source.load([0])
