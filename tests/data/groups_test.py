import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skinjax.data import groups

keys = st.sampled_from(["", "", "a", "b", "c", "d", "e"])


@st.composite
def tables(draw):
    num_records = draw(st.integers(0, 25))
    columns = draw(st.lists(st.lists(keys, min_size=num_records, max_size=num_records), max_size=3))
    places = st.integers(0, max(num_records - 1, 0))
    pairs = draw(st.lists(st.tuples(places, places), max_size=5)) if num_records else []
    return num_records, columns, pairs


def join_slowly(num_records, columns, pairs):
    """Spreads the smallest number along every link until nothing changes."""
    links = [*pairs]
    for key_N in columns:
        for i in range(num_records):
            links += [(i, j) for j in range(i) if key_N[i] and key_N[i] == key_N[j]]
    group_N = list(range(num_records))
    for _ in range(num_records):
        for i, j in links:
            group_N[i] = group_N[j] = min(group_N[i], group_N[j])
    return group_N


@settings(deadline=None)
@given(tables())
def test_joins_what_shares_a_key_or_stands_in_a_pair(table):
    num_records, columns, pairs = table
    group_N = groups.join(num_records, *columns, pairs=pairs)
    assert group_N.dtype == np.int64
    assert group_N.tolist() == join_slowly(num_records, columns, pairs)


@settings(deadline=None)
@given(tables(), st.randoms())
def test_names_do_not_depend_on_the_order_of_the_records(table, random):
    num_records, columns, pairs = table
    id_N = [f"image {number}" for number in range(num_records)]
    name_N = groups.names(groups.join(num_records, *columns, pairs=pairs), id_N)
    order = list(range(num_records))
    random.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    shuffled = [[key_N[i] for i in order] for key_N in columns]
    moved = [(place[i], place[j]) for i, j in pairs]
    group_N = groups.join(num_records, *shuffled, pairs=moved)
    assert groups.names(group_N, [id_N[i] for i in order]) == [name_N[i] for i in order]


def test_unknown_keys_join_nothing_and_chains_join_all():
    lesion_N = ["l1", "", "l1", "", "l2"]
    patient_N = ["", "p1", "p1", "", ""]
    np.testing.assert_array_equal(groups.join(5, lesion_N), [0, 1, 0, 3, 4])
    np.testing.assert_array_equal(groups.join(5, lesion_N, patient_N), [0, 0, 0, 3, 4])
    np.testing.assert_array_equal(
        groups.join(5, lesion_N, patient_N, pairs=[(3, 4)]), [0] * 3 + [3] * 2
    )
    np.testing.assert_array_equal(groups.join(3), [0, 1, 2])


def test_names_a_group_after_its_smallest_id():
    assert groups.names(np.array([0, 1, 0, 1]), ["d", "b", "a", "c"]) == ["a", "b", "a", "b"]


def test_index_is_numpys_unique():
    distinct, index_N = groups.index(np.array(["b", "a", "b"]))
    assert (distinct, index_N.tolist()) == (["a", "b"], [1, 0, 1])
    assert groups.index([])[0] == []


def test_refuses_columns_of_other_lengths_and_pairs_outside():
    with pytest.raises(ValueError, match="a column has 2 keys: expected 3"):
        groups.join(3, ["a", "a"])
    for pair in ((0, 3), (-1, 0)):
        with pytest.raises(ValueError, match="not from 0 to 2"):
            groups.join(3, pairs=[pair])
