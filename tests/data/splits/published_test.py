from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax.data.records import Record
from skinjax.data.splits import published
from skinjax.data.splits.grouped import SPLITS
from skinjax.errors import InputError


def make_records(names):
    return [
        Record(f"i{n}", Path(), 0, f"l{n}", age=None, sex="", site="", source="", split=name)
        for n, name in enumerate(names)
    ]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SPLITS), st.sampled_from("abcdefg")), max_size=30))
def test_keeps_all_but_what_would_leak(rows):
    records = make_records([name for name, _ in rows])
    group_N = [group for _, group in rows]
    split_N, left_out = published.keep(records, group_N)
    for (name, group), split in zip(rows, split_N, strict=True):
        of_group = {n for n, g in rows if g == group}
        first = next(n for n in ("test", "val", "train") if n in of_group)
        assert split == (name if name == first else "")
    assert [row.image_id for row in left_out] == [
        record.image_id for record, split in zip(records, split_N, strict=True) if not split
    ]


def test_says_where_the_group_stays():
    _, left_out = published.keep(make_records(["val", "train", "train"]), ["a", "a", "b"])
    assert [row.image_id for row in left_out] == ["i1"]
    assert left_out[0].reason.startswith(
        "lesion, patient or picture published in several splits: a stays in val"
    )


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], False),
        (["", ""], False),
        (["train", "train"], False),
        (["test", "test"], False),
        (["train", "test"], True),
        (["train", "val"], True),
        (["val", "test", "train"], True),
    ],
)
def test_two_splits_are_one_to_keep(names, expected):
    assert published.is_published(make_records(names)) is expected


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["train", "", "test", ""], "2 of 4 images have no published split, e.g. i1"),
        (["train", "validation", "test"], "image i1 has the published split 'validation'"),
        (["val", "test"], "none as train"),
    ],
)
def test_refuses_splits_that_cannot_be_kept(names, match):
    with pytest.raises(InputError, match=match):
        published.is_published(make_records(names))
