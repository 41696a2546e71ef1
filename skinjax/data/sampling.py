"""Which records a training batch holds: pure functions of the seed and the batch number."""

import functools

import numpy as np

from skinjax.errors import InputError

# Draws of one class that are shuffled at a time, at least: with one generator for each cycle, a
# class of few images would need thousands of them in an epoch.
_BLOCK = 1024
_GOLDEN = (5**0.5 - 1) / 2


def shuffled_indices(
    batch_number: int, *, num_records: int, batch_size: int, seed: int
) -> np.ndarray:
    """Returns the records of global batch `batch_number`, int64 (batch_size,), no record twice."""
    epoch, batch_in_epoch = divmod(int(batch_number), num_records // batch_size)
    start = batch_in_epoch * batch_size
    return _epoch_order(num_records, seed, epoch)[start : start + batch_size]


def balanced_indices(
    batch_number: int, *, label_N: np.ndarray, batch_size: int, seed: int, balance: float
) -> np.ndarray:
    """Returns the records of global batch `batch_number`, int64 (batch_size,), classes evened out.

    Class c, with n_c examples, is drawn in proportion to n_c ** (1 - balance): 0 leaves the classes
    as they come, 1 draws each equally often. An epoch is N // batch_size batches, in which a class
    gets its expected number of draws rounded up or down; over the epochs, its mean converges to
    the expected number. The images of a class are drawn in cycles, each in a new order, that go on
    from epoch to epoch: none is drawn a third time before each of its class was drawn twice.

    Args:
      batch_number: from 0, without end.
      label_N: int (N,), class indices; not to be changed between calls, since orders are cached.
      batch_size: global, at most N.
      seed: another seed, another order.
      balance: from 0 to 1.

    Raises:
      InputError: `balance` is outside [0, 1], or a label is negative.
    """
    check_balance(balance)
    epoch, batch_in_epoch = divmod(int(batch_number), len(label_N) // batch_size)
    start = batch_in_epoch * batch_size
    order_N = _balanced_order(_ByIdentity(label_N), batch_size, seed, float(balance), epoch)
    return order_N[start : start + batch_size]


def check_balance(balance: float) -> None:
    """Checks the exponent of balanced sampling.

    Raises:
      InputError: it is outside [0, 1].
    """
    if not 0 <= balance <= 1:  # also refuses NaN
        raise InputError(
            f"balance is {balance}; it must be from 0 (classes as they come) to 1 (equally often)"
        )


# Reading threads are at most one epoch apart, so two orders are enough; four let training go on
# while another dataset (cross-validation, a test) is being read in the same process.
@functools.lru_cache(maxsize=4)
def _epoch_order(num_records: int, seed: int, epoch: int) -> np.ndarray:
    # Seeded by the pair: with seed + epoch, runs of neighbouring seeds would share their orders.
    order_N = np.random.default_rng([seed, epoch]).permutation(num_records)
    order_N.flags.writeable = False
    return order_N


class _ByIdentity:
    """An array as a key of a cache, which keeps it alive: hashing its content takes too long."""

    def __init__(self, label_N: np.ndarray):
        self.label_N = label_N

    def __hash__(self) -> int:
        return id(self.label_N)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.label_N is other.label_N


@functools.lru_cache(maxsize=4)
def _balanced_order(
    labels: _ByIdentity, batch_size: int, seed: int, balance: float, epoch: int
) -> np.ndarray:
    """The draws of an epoch, int64 (N // batch_size * batch_size,)."""
    label_N = labels.label_N
    if label_N.min() < 0:
        raise InputError(f"a label is {label_N.min()}; labels must be 0 or more")
    count_C = np.bincount(label_N)
    start_C = np.cumsum(count_C) - count_C
    by_class_N = np.argsort(label_N, kind="stable")
    length = len(label_N) // batch_size * batch_size
    before_C, quota_C = _quotas(count_C, length, balance, epoch)
    draws = []
    for label in np.flatnonzero(quota_C).tolist():
        of_class = by_class_N[start_C[label] : start_C[label] + count_C[label]]
        places = _cycles(len(of_class), int(before_C[label]), int(quota_C[label]), seed, label)
        draws.append(of_class[places])
    # NumPy fills a short seed up with zeros, so each kind of seed ends with a number of its own.
    order_E = np.random.default_rng([seed, epoch, 1]).permutation(np.concatenate(draws))
    order_E.flags.writeable = False
    return order_E


def _quotas(
    count_C: np.ndarray, length: int, balance: float, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws of each class before this epoch and in it, int64 (C,) each.

    The classes lie one after the other on a line of the epoch's length, and a comb with teeth at
    distance 1 counts those that fall on each (systematic sampling: rounded up or down, and the sum
    is exact). From epoch to epoch the comb moves by the golden ratio, which spreads its places
    evenly, so that the mean over the epochs converges.
    """
    weight_C = np.where(count_C > 0, np.maximum(count_C, 1) ** (1.0 - balance), 0.0)
    end_C = np.cumsum(weight_C) / weight_C.sum() * length
    end_C[np.flatnonzero(count_C)[-1] :] = length
    whole_C = np.floor(end_C).astype(np.int64)
    up_C = 1 - (end_C - whole_C)  # a comb at or beyond this rounds up
    comb_E = np.arange(1, epoch + 2) * _GOLDEN % 1
    ups_C = epoch - np.searchsorted(np.sort(comb_E[:-1]), up_C, side="left")
    before_C = whole_C * epoch + ups_C
    return np.diff(before_C, prepend=0), np.diff(whole_C + (comb_E[-1] >= up_C), prepend=0)


def _cycles(size: int, start: int, length: int, seed: int, label: int) -> np.ndarray:
    """`length` draws from draw `start` on of range(size) in shuffled cycles without end."""
    cycles_per_block = -(-_BLOCK // size)
    block_size = cycles_per_block * size
    first = start // block_size
    blocks = []
    for block in range(first, (start + length - 1) // block_size + 1):
        cycle_KN = np.tile(np.arange(size), (cycles_per_block, 1))
        rng = np.random.default_rng([seed, block, label, 2])
        blocks.append(rng.permuted(cycle_KN, axis=1).ravel())
    offset = start - first * block_size
    return np.concatenate(blocks)[offset : offset + length]
