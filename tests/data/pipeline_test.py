"""Order, sharding, exactness and resuming of the Grain datasets, on in-memory sources."""

import itertools
import json

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax.data import pipeline, sampling
from skinjax.errors import InputError


class MemorySource:
    """`size` images of 2x3 pixels that hold their own row number."""

    def __init__(self, size, image_dtype=np.uint8):
        self.image_NHWC = np.zeros((size, 2, 3, 3), image_dtype)
        self.image_NHWC[..., 0] = np.arange(size)[:, None, None] % 251

    def __len__(self):
        return len(self.image_NHWC)

    def __getitem__(self, index):
        return {"image": self.image_NHWC[index], "label": np.int32(index)}

    def __getitems__(self, indices):
        return [self[index] for index in indices]


class MetadataSource(MemorySource):
    """Records with two numbers of metadata: the row number, and one."""

    def __getitem__(self, index):
        return {**super().__getitem__(index), "metadata": np.array([index, 1], np.float32)}


def train(source, batch_size=4, seed=0, num_threads=2, **kwargs):
    return iter(
        pipeline.train_dataset(
            source, batch_size=batch_size, seed=seed, num_threads=num_threads, **kwargs
        )
    )


def labels(iterator, num_batches):
    return [next(iterator)["label"].tolist() for _ in range(num_batches)]


def test_train_batch_holds_to_the_contract():
    batch = next(train(MemorySource(10)))
    assert set(batch) == {"image", "label", "mask"}
    assert (batch["image"].shape, batch["image"].dtype) == ((4, 2, 3, 3), np.uint8)
    assert (batch["label"].shape, batch["label"].dtype) == ((4,), np.int32)
    assert (batch["mask"].dtype, batch["mask"].all()) == (np.bool_, True)
    np.testing.assert_array_equal(batch["image"][:, 1, 2, 0], batch["label"])


def test_metadata_of_the_source_is_in_the_batches():
    batch = next(train(MetadataSource(10)))
    assert set(batch) == {"image", "label", "mask", "metadata"}
    assert (batch["metadata"].shape, batch["metadata"].dtype) == ((4, 2), np.float32)
    np.testing.assert_array_equal(batch["metadata"][:, 0], batch["label"])
    parts = [next(train(MetadataSource(10), process_index=i, process_count=2)) for i in (0, 1)]
    joined = np.concatenate([part["metadata"] for part in parts])
    np.testing.assert_array_equal(joined, batch["metadata"])


def test_metadata_of_padding_is_that_of_record_0():
    *_, last = pipeline.eval_dataset(MetadataSource(6), batch_size=4, num_threads=1)
    assert last["metadata"].tolist() == [[4, 1], [5, 1], [0, 1], [0, 1]]
    np.testing.assert_array_equal(last["metadata"][:, 0], last["index"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({3: None}, "8 of 9 records of a batch have metadata"),
        ({3: np.zeros(3, np.float32)}, "metadata of one batch differ in shape"),
        ({3: np.array([np.nan, 1], np.float32)}, "not finite"),
        ({i: np.zeros(2) for i in range(9)}, "metadata has dtype float64; expected float32"),
    ],
)
def test_wrong_metadata_in_the_source_is_named(rows, message):
    class Wrong(MetadataSource):
        def __getitem__(self, index):
            record = super().__getitem__(index)
            record["metadata"] = rows.get(index, record["metadata"])
            return {key: value for key, value in record.items() if value is not None}

    with pytest.raises(InputError, match=message):
        next(train(Wrong(9), batch_size=9))


def test_every_epoch_and_every_seed_has_its_own_order():
    epochs = {}
    for seed in (0, 1, 2):
        batches = labels(train(MemorySource(40), batch_size=40, seed=seed), 3)
        epochs |= {(seed, epoch): tuple(batch) for epoch, batch in enumerate(batches)}
    assert len(set(epochs.values())) == 9
    assert labels(train(MemorySource(40), batch_size=40, seed=1), 1) == [list(epochs[1, 0])]


def test_dropped_records_differ_between_epochs():
    iterator = train(MemorySource(9))
    seen = [{*next(iterator)["label"], *next(iterator)["label"]} for _ in range(12)]
    assert set.union(*seen) == set(range(9))


@pytest.mark.parametrize("process_count", [2, 4])
def test_processes_hold_consecutive_slices_of_the_same_global_batch(process_count):
    source = MemorySource(21)
    whole = labels(train(source, batch_size=8), 5)
    shards = [
        labels(train(source, batch_size=8, process_index=i, process_count=process_count), 5)
        for i in range(process_count)
    ]
    joined = [list(itertools.chain(*parts)) for parts in zip(*shards, strict=True)]
    assert joined == whole


@pytest.mark.parametrize("num_threads", [0, 1, 4])
def test_the_order_does_not_depend_on_the_number_of_threads(num_threads):
    expected = [
        sampling.shuffled_indices(i, num_records=10, batch_size=4, seed=0).tolist()
        for i in range(7)
    ]
    assert labels(train(MemorySource(10), num_threads=num_threads), 7) == expected


@pytest.mark.parametrize("saved_at", [0, 1, 2, 5, 6, 7])
def test_resuming_gives_the_identical_next_batches(saved_at):
    source = MemorySource(13)  # three batches of four in an epoch: saved inside and between epochs
    unbroken = train(source)
    labels(unbroken, saved_at)
    state = json.dumps(unbroken.get_state())
    expected = labels(unbroken, 5)

    resumed = train(source)
    labels(resumed, 2)  # a restored iterator need not be a fresh one
    resumed.set_state(json.loads(state))
    assert labels(resumed, 5) == expected


def test_a_batch_number_is_enough_to_resume():
    expected = labels(train(MemorySource(13)), 9)
    resumed = train(MemorySource(13))
    grain.experimental.set_next_index(resumed, 4)
    assert labels(resumed, 5) == expected[4:]


def test_worker_processes_keep_the_order_and_resume():
    expected = labels(train(MemorySource(13)), 9)
    iterator = train(MemorySource(13), num_threads=1, num_workers=2)
    assert labels(iterator, 4) == expected[:4]
    state = json.dumps(iterator.get_state())
    assert labels(iterator, 3) == expected[4:7]
    iterator.set_state(json.loads(state))
    assert labels(iterator, 5) == expected[4:]
    iterator.close()


def balanced(size=26, balance=1.0, **kwargs):
    """Two records in three are of class 0; `label` in a batch is the record's number."""
    label_N = np.arange(size) % 3 // 2
    return train(MemorySource(size), label_N=label_N, balance=balance, **kwargs)


def test_balanced_batches_draw_classes_equally_often():
    drawn = np.concatenate(labels(balanced(), 60))
    assert (drawn % 3 == 2).sum() == 120
    assert set(drawn.tolist()) == set(range(26))


def test_without_balance_labels_change_nothing():
    assert labels(balanced(balance=0.0), 20) == labels(train(MemorySource(26)), 20)


def test_balanced_batches_do_not_depend_on_processes_threads_or_workers():
    expected = labels(balanced(), 15)
    parts = [labels(balanced(process_index=i, process_count=2), 15) for i in range(2)]
    assert [list(itertools.chain(*pair)) for pair in zip(*parts, strict=True)] == expected
    assert labels(balanced(num_threads=0), 15) == expected
    workers = balanced(num_threads=1, num_workers=2)
    assert labels(workers, 15) == expected
    workers.close()


def test_balanced_batches_resume_and_ignore_later_changes_of_the_labels():
    label_N = np.arange(26) % 3 // 2
    iterator = train(MemorySource(26), label_N=label_N, balance=1.0)
    labels(iterator, 8)
    state = json.dumps(iterator.get_state())
    label_N[:] = 0
    expected = labels(iterator, 9)
    resumed = balanced()
    resumed.set_state(json.loads(state))
    assert labels(resumed, 9) == expected


def test_balance_needs_a_label_of_every_record():
    with pytest.raises(InputError, match="labels of all 9 training records; got none"):
        train(MemorySource(9), balance=0.5)
    with pytest.raises(InputError, match=r"all 9 training records; got an array of shape \(8,\)"):
        train(MemorySource(9), balance=0.5, label_N=np.zeros(8, int))
    with pytest.raises(InputError, match="balance is 2"):
        train(MemorySource(9), balance=2.0, label_N=np.zeros(9, int))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 12), st.sampled_from([1, 2, 3, 4]))
def test_evaluation_sees_every_record_exactly_once(size, per_process, process_count):
    batch_size = per_process * process_count
    source = MemorySource(size)
    shards = [
        list(
            pipeline.eval_dataset(
                source,
                batch_size=batch_size,
                num_threads=1,
                process_index=index,
                process_count=process_count,
            )
        )
        for index in range(process_count)
    ]
    assert {len(shard) for shard in shards} == {-(-size // batch_size)}
    rows = []
    for parts in zip(*shards, strict=True):
        for batch in parts:
            assert batch["image"].shape == (per_process, 2, 3, 3)
            assert batch["index"].dtype == np.int32
            np.testing.assert_array_equal(batch["label"], batch["index"])
            np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])
            assert not batch["index"][~batch["mask"]].any()
            rows += batch["index"][batch["mask"]].tolist()
    assert rows == list(range(size))


@pytest.mark.parametrize(
    ("size", "kwargs", "message"),
    [
        (0, {}, "no records"),
        (3, {}, "a batch of 4 is larger than the 3 training records"),
        (9, {"batch_size": 0}, "batch_size is 0"),
        (9, {"seed": -1}, "seed is -1"),
        (9, {"batch_size": 7, "process_count": 4}, "nearest valid batch_size is 8"),
        (9, {"batch_size": 1, "process_count": 4}, "nearest valid batch_size is 4"),
    ],
)
def test_train_refuses_bad_sizes(size, kwargs, message):
    with pytest.raises(InputError, match=message):
        train(MemorySource(size), **kwargs)


def test_eval_refuses_an_empty_source_and_an_uneven_batch():
    with pytest.raises(InputError, match="no records"):
        pipeline.eval_dataset(MemorySource(0), batch_size=4, num_threads=1)
    with pytest.raises(InputError, match="5 cannot be divided by 2 processes"):
        pipeline.eval_dataset(MemorySource(9), batch_size=5, num_threads=1, process_count=2)


def test_a_wrong_image_in_the_source_is_named():
    with pytest.raises(InputError, match="image has dtype float32; expected uint8"):
        next(train(MemorySource(9, np.float32)))

    source = MemorySource(9)
    rows = [source[i] for i in range(9)]
    rows[3]["image"] = np.zeros((5, 5, 3), np.uint8)
    source.__class__ = type("Uneven", (MemorySource,), {"__getitem__": lambda _, i: rows[i]})
    with pytest.raises(InputError, match="differ in shape"):
        next(train(source, batch_size=9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": np.zeros(2)}, "keys"),
        ({"image": np.zeros((2, 4, 4), np.uint8)}, r"image has shape \(2, 4, 4\)"),
        ({"image": np.zeros((2, 4, 4, 1), np.uint8)}, "image has shape"),
        ({"label": np.zeros(2, np.int64)}, "label has dtype int64; expected int32"),
        ({"label": np.zeros((2, 1), np.int32)}, r"label has shape \(2, 1\)"),
        ({"mask": np.ones(3, bool)}, r"mask has shape \(3,\); expected \(2,\)"),
        ({"mask": np.ones(2, np.float32)}, "mask has dtype float32; expected bool"),
        ({"index": np.zeros(2, np.int32)}, "keys"),
        (
            {"metadata": np.zeros(2, np.float32)},
            r"metadata has shape \(2,\); expected \(2, columns",
        ),
        ({"metadata": np.zeros((3, 5), np.float32)}, r"metadata has shape \(3, 5\); expected \(2,"),
        ({"metadata": np.zeros((2, 5))}, "metadata has dtype float64; expected float32"),
        (
            {"metadata": np.full((2, 5), np.inf, np.float32)},
            "metadata has values that are not fini",
        ),
    ],
)
def test_check_batch_names_what_is_wrong(change, message):
    batch = {
        "image": np.zeros((2, 4, 4, 3), np.uint8),
        "label": np.zeros(2, np.int32),
        "mask": np.ones(2, np.bool_),
    }
    assert pipeline.check_batch(batch) is batch
    with_metadata = batch | {"metadata": np.zeros((2, 5), np.float32)}
    assert pipeline.check_batch(with_metadata) is with_metadata
    with pytest.raises(InputError, match=message):
        pipeline.check_batch(batch | change)
