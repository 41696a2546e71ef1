"""Groups: records that no split may part, because they show one lesion, patient or picture."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph


def join(
    num_records: int, *key_columns: Sequence[str], pairs: Iterable[tuple[int, int]] = ()
) -> np.ndarray:
    """Joins records that share a key in some column or stand in a pair, and so on from each to all.

    Args:
      num_records: N.
      key_columns: each N keys, such as lesion or patient ids; '' is not known, and joins nothing.
      pairs: indices of records, such as those of near duplicates.

    Returns:
      int64 (N,): the index of the first record of each record's group.

    Raises:
      ValueError: a column hasn't N keys, or an index of a pair is not from 0 to N - 1.
    """
    edges = [np.array(list(pairs), dtype=np.int64).reshape(-1, 2)]
    if edges[0].size and not 0 <= edges[0].min() <= edges[0].max() < num_records:
        raise ValueError(f"pairs hold an index that is not from 0 to {num_records - 1}")
    for key_N in key_columns:
        if len(key_N) != num_records:
            raise ValueError(f"a column has {len(key_N)} keys: expected {num_records}")
        edges.append(_edges(key_N))
    from_E, to_E = np.concatenate(edges).T
    graph = sparse.coo_array(
        (np.ones(len(from_E), dtype=bool), (from_E, to_E)), shape=(num_records, num_records)
    )
    _, component_N = csgraph.connected_components(graph, directed=False)
    _, first_G = np.unique(component_N, return_index=True)
    return first_G[component_N].astype(np.int64)


def _edges(key_N: Sequence[str]) -> np.ndarray:
    """From each record to the first with its key: int64 (E, 2)."""
    first: dict[str, int] = {}
    from_N = np.fromiter(
        (first.setdefault(key, index) if key else -1 for index, key in enumerate(key_N)),
        np.int64,
        len(key_N),
    )
    to_E = np.flatnonzero(from_N >= 0)
    return np.stack([from_N[to_E], to_E], axis=1)


def names(group_N: np.ndarray, id_N: Sequence[str]) -> list[str]:
    """Names each record's group after the smallest of its ids, whatever the order of the records.

    The names of two groups differ if no id stands in both, as with image ids, or lesion ids that
    were joined.
    """
    smallest: dict[int, str] = {}
    number_N = np.asarray(group_N).tolist()
    for number, name in zip(number_N, id_N, strict=True):
        smallest[number] = min(smallest.get(number, name), name)
    return [smallest[number] for number in number_N]


def index(name_N: Sequence[str] | np.ndarray) -> tuple[list[str], np.ndarray]:
    """The distinct names, sorted, and the place of each of the N in them: int64 (N,).

    This is `np.unique`, but without an array of strings, in which one long name makes all long.
    """
    listed = name_N.tolist() if isinstance(name_N, np.ndarray) else list(name_N)
    distinct = sorted(set(listed))
    place = {name: number for number, name in enumerate(distinct)}
    return distinct, np.fromiter((place[name] for name in listed), np.int64, len(listed))
