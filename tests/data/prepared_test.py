import json
import pickle
import tracemalloc
from concurrent import futures

import numpy as np
import pytest

from skinjax.config import default_config
from skinjax.data import builder, metadata, pipeline, prepared
from skinjax.errors import InputError


@pytest.fixture
def dataset(config):
    return builder.prepare(config)


def test_opens_by_its_folder_alone(dataset):
    assert prepared.open_prepared(dataset.directory) == dataset
    assert prepared.open_prepared(str(dataset.directory)) == dataset


def test_source_joins_splits_in_the_order_given(dataset):
    labels = {
        name: [example["label"] for example in dataset.source((name,))] for name in dataset.counts
    }
    joined = [example["label"] for example in dataset.source(("test", "train"))]
    assert joined == labels["test"] + labels["train"]
    for name, of_split in labels.items():
        assert of_split == [dataset.classes.index(row["label"]) for row in dataset.table(name)]
        np.testing.assert_array_equal(np.bincount(of_split, minlength=7), dataset.counts[name])


def test_source_reads_batches_in_any_order_and_type(dataset):
    source = dataset.source(("train",))
    order = np.random.default_rng(0).permutation(len(source))
    batch = source.__getitems__(order)
    assert source.__getitems__([]) == []
    for index, example in zip(order, batch, strict=True):
        assert set(example) == {"image", "label"}
        assert (example["image"].shape, example["image"].dtype) == ((8, 8, 3), np.uint8)
        assert isinstance(example["label"], np.int32)
        np.testing.assert_array_equal(example["image"], source[index]["image"])
    for wrong in (-1, len(source)):
        with pytest.raises(IndexError):
            source[wrong]


def test_source_survives_pickling_and_threads(dataset):
    source = dataset.source(("train", "val"))
    expected = [example["image"] for example in source]
    copy = pickle.loads(pickle.dumps(source))
    with futures.ThreadPoolExecutor(8) as executor:
        images = list(executor.map(lambda index: copy[index]["image"], range(len(copy))))
    np.testing.assert_array_equal(images, expected)


@pytest.fixture
def encoder(dataset):
    settings = default_config().metadata
    settings.features = ("age", "site")
    return metadata.fit(settings, dataset.table("train"))


@pytest.mark.parametrize("cached", [False, True])
def test_a_source_with_metadata_has_the_rows_of_its_table(dataset, encoder, cached):
    plain = dataset.source(("test", "train"))
    source = dataset.source(("test", "train"), cached=cached, encoder=encoder)
    expected_NM = encoder.encode(dataset.table("test", "train"))
    assert len(source) == len(plain) == len(expected_NM)
    order = np.random.default_rng(0).permutation(len(source))
    assert source.__getitems__([]) == []
    for index, record in zip(order, source.__getitems__(order), strict=True):
        assert set(record) == {"image", "label", "metadata"}
        assert record["label"] == plain[index]["label"]
        np.testing.assert_array_equal(record["image"], plain[index]["image"])
        np.testing.assert_array_equal(record["metadata"], expected_NM[index])
        np.testing.assert_array_equal(source[index]["metadata"], expected_NM[index])
    for wrong in (-1, len(source)):
        with pytest.raises(IndexError):
            source[wrong]


def test_a_source_with_metadata_survives_pickling_and_worker_processes(dataset, encoder):
    source = dataset.source(("train",), encoder=encoder)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[3]["metadata"], source[3]["metadata"])
    make = {"batch_size": 4, "seed": 0, "num_threads": 1}
    here = iter(pipeline.train_dataset(source, **make))
    there = iter(pipeline.train_dataset(source, num_workers=2, **make))
    for _ in range(3):
        one, other = next(here), next(there)
        assert one["metadata"].shape == (4, sum(encoder.sizes))
        np.testing.assert_array_equal(one["metadata"], other["metadata"])
        np.testing.assert_array_equal(one["image"], other["image"])
    there.close()


def test_metadata_needs_a_row_for_each_record(dataset):
    source = dataset.source(("train",))
    with pytest.raises(ValueError, match="records and 1 rows of metadata"):
        prepared.WithMetadata(source, np.zeros((1, 2), np.float32))


@pytest.mark.parametrize("wrong", [(), ("training",), ("val", "val")])
def test_source_refuses_other_splits(dataset, wrong):
    with pytest.raises(InputError, match="expected one or more of train, val, test"):
        dataset.source(wrong)


def test_an_empty_split_is_an_empty_source(config):
    config.data.split = (0.8, 0.0, 0.2)
    dataset = builder.prepare(config)
    assert dataset.counts["val"] == (0,) * 7
    assert len(dataset.source(("val",))) == 0
    assert dataset.source(("val",)).__getitems__([]) == []
    settings = default_config().metadata
    settings.features = ("age",)
    encoder = metadata.fit(settings, dataset.table("train"))
    assert len(dataset.source(("val",), encoder=encoder)) == 0
    assert dataset.table("val") == []
    assert len(list(dataset.source(("train", "val", "test")))) == 35


def test_finds_the_only_data_set_inside(config, dataset):
    for folder in (dataset.store, dataset.store.parent, dataset.store.parent.parent):
        assert prepared.open_prepared(folder) == dataset
    config.data.split_seed = 1
    other = builder.prepare(config)
    with pytest.raises(InputError, match="several prepared data sets, name one") as error:
        prepared.open_prepared(dataset.store)
    assert str(other.directory) in str(error.value)
    assert prepared.open_prepared(other.directory) == other


def test_labels_and_table_are_in_the_order_of_the_source(dataset):
    names = ("val", "train")
    expected = [example["label"] for example in dataset.source(names)]
    np.testing.assert_array_equal(dataset.labels(names), expected)
    assert dataset.labels(names).dtype == np.int32
    row = dataset.table("val")[0]
    assert set(row) == set(prepared.RECORD_COLUMNS)
    assert (row["height"], row["width"], row["mode"]) == (16, 24, "rgb")
    assert row["group"] == row["lesion_id"]


def test_a_table_of_some_splits_and_columns(dataset):
    names, columns = ("test", "train"), ("sex", "age")
    whole = [row for name in names for row in dataset.table(name)]
    assert dataset.table(*names) == whole
    assert dataset.table(*names, columns=columns) == [
        {name: row[name] for name in columns} for row in whole
    ]


def test_what_training_reads_of_a_record_takes_no_more_memory_than_its_numbers(dataset, encoder):
    # As many rows as make what is kept stand out from what reading takes at any size.
    path = dataset.directory / "records.csv"
    header, *lines = path.read_text().splitlines(keepends=True)
    copies = 6_000 // len(lines)
    path.write_text(header + "".join(line * copies for line in lines))
    count = sum(dataset.counts["train"]) * copies

    def peak(work):
        tracemalloc.start()
        kept = work()
        grown = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return kept, grown / count

    source, of_source = peak(lambda: dataset.source(("train",)))
    label_N, of_labels = peak(lambda: dataset.labels(("train",)))
    _, of_rows = peak(lambda: dataset.table("train", columns=("age", "sex", "site")))
    _, of_metadata = peak(lambda: dataset.source(("train",), encoder=encoder))
    assert len(source) == len(label_N) == count
    # A dict for each row would be 1,000 and more; a few tens here are the reader's buffers.
    assert of_source < 100
    assert of_labels < 100
    assert of_rows < 150
    assert of_metadata < 100 + 3 * 4 * len(encoder.names) + 300  # a chunk of rows, and the numbers


def test_a_cached_source_gives_the_same_images(dataset):
    plain, cached = (dataset.source(("test",), cached=flag) for flag in (False, True))
    assert len(plain) == len(cached)
    for one, other in zip(plain, cached, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        assert one["label"] == other["label"]


def test_finds_a_shard_that_is_missing_or_cut(dataset):
    (shard,) = dataset.store.glob("*-images.array_record*")
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    with pytest.raises(InputError, match=f"{shard.name} has {len(data) - 1} bytes, expected"):
        prepared.open_prepared(dataset.directory)
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name} is missing, expected"):
        prepared.open_prepared(dataset.directory)


def test_refuses_what_is_not_prepared(dataset, tmp_path):
    with pytest.raises(InputError, match="no prepared data set in"):
        prepared.open_prepared(tmp_path)
    manifest = dataset.directory / prepared.MANIFEST
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "format_version": 99}))
    with pytest.raises(InputError, match="has format version 99, expected 2"):
        prepared.open_prepared(dataset.directory)
    manifest.write_text("{")
    with pytest.raises(InputError, match="is broken"):
        prepared.open_prepared(dataset.directory)
