import os
import threading
import time

import pytest

from skinjax.data import threads


def test_map_in_order_keeps_the_order_and_runs_a_few_ahead():
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.002 * (item % 3))
        return item, threading.get_ident()

    results = threads.map_in_order(work, range(100), num_threads=2)
    first, thread = next(results)
    time.sleep(0.1)
    assert first == 0
    assert thread != threading.get_ident()
    assert len(begun) <= 9
    assert [item for item, _ in results] == list(range(1, 100))
    assert len(begun) == 100


def test_map_in_order_passes_an_error_on():
    results = threads.map_in_order(lambda item: 1 // item, [1, 0, 1], num_threads=1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_as_many_threads_as_cores_unless_told(monkeypatch):
    monkeypatch.setattr(threads, "available_cores", lambda: 3)
    begun = []
    results = threads.map_in_order(begun.append, range(100))
    next(results)
    time.sleep(0.1)
    assert len(begun) == 13  # four a thread, and the one that came out
    results.close()


def test_available_cores_are_this_process_own(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5}, raising=False)
    assert threads.available_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available_cores() == 1
