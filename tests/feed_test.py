"""Tests of reading one batch ahead."""

from collections.abc import Iterator
from typing import Any

import pytest

from skinjax.errors import InputError
from skinjax.feed import Feed


class Counting:
    """Numbers from 0; the batch `broken` can't be read."""

    def __init__(self, broken: int = -1) -> None:
        self.next, self.broken = 0, broken

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.next == self.broken:
            raise InputError("a shard is gone")
        self.next += 1
        return self.next - 1

    def get_state(self) -> dict[str, int]:
        return {"next": self.next}

    def set_state(self, state: dict[str, int]) -> None:
        self.next = state["next"]


def make(batches: Any) -> Feed:
    return Feed(batches, lambda number: number * 10)


def test_what_is_ahead_is_not_in_the_state() -> None:
    batches = Counting()
    feed = make(batches)
    assert (feed.take(), feed.get_state()) == (0, {"next": 1})
    feed.fetch()
    feed.fetch()
    assert batches.next == 2
    assert feed.get_state() == {"next": 1}
    assert (feed.take(), feed.get_state()) == (10, {"next": 2})
    feed.fetch()
    feed.set_state({"next": 1})
    assert feed.take() == 10
    assert feed.take_waited() > 0
    assert feed.take_waited() == 0


def test_a_batch_that_cannot_be_read_is_told_to_who_takes_it() -> None:
    feed = make(Counting(broken=1))
    assert feed.take() == 0
    feed.fetch()
    assert feed.get_state() == {"next": 1}
    for _ in range(2):
        with pytest.raises(InputError, match="a shard is gone"):
            feed.take()
