import collections
import errno
import fcntl
import multiprocessing
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from skinjax.config import default_config
from skinjax.data import builder, fingerprints, image_store, shards, sources
from skinjax.data.preprocess import Preprocess
from skinjax.errors import InputError

SPEC = shards.Spec(tuple("abcdefg"), Preprocess(image_size=8), "raw", 8)
SHARD_BYTES = 3 * 8 * 8 * 3


def build(raw_dir, folder, runner=image_store.on_this_machine):
    records = sources.read_ham10000(raw_dir).records
    digests = fingerprints.hash_images(records, folder / "hashes.csv")
    return image_store.build(folder, records, digests, SPEC, runner)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_builds_once_and_opens_by_its_folder(raw_dir, tmp_path):
    store = build(raw_dir, tmp_path / "out")
    assert store.directory.name == store.fingerprint[:12]
    assert image_store.open_store(store.directory) == store
    again = build(raw_dir, tmp_path / "out", lambda *_: pytest.fail("wrote it again"))
    assert again == store
    assert [one.image_id for one in store.facts()] == [f"ISIC_{n:07d}" for n in range(35)]
    samples = image_store.samples(store.directory)
    assert len(samples) == 6
    (original,) = raw_dir.rglob(samples[1].name)
    assert samples[1].read_bytes() == original.read_bytes()


def test_goes_on_after_an_interrupt_without_writing_a_shard_twice(raw_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", SHARD_BYTES)
    whole = contents(build(raw_dir, tmp_path / "whole").directory)
    processed = []
    process = shards.process

    def counted(record, spec):
        if len(processed) == 17:
            raise KeyboardInterrupt
        processed.append(record.image_id)
        return process(record, spec)

    monkeypatch.setattr(shards, "process", counted)
    with pytest.raises(KeyboardInterrupt):
        build(raw_dir, tmp_path / "out")
    (unfinished,) = (tmp_path / "out").glob(".*.unfinished")
    finished = {path.name: path.stat().st_mtime_ns for path in unfinished.glob("facts-*")}
    assert len(finished) >= 2
    with pytest.raises(InputError, match="no prepared data set"):
        image_store.open_store(unfinished)

    processed.append("no more interrupts")
    monkeypatch.setattr(
        shards, "process", lambda *args, **kw: processed.append(args) or process(*args, **kw)
    )
    before = len(processed)
    store = build(raw_dir, tmp_path / "out")
    assert contents(store.directory) == whole
    assert len(processed) - before <= 35 - 3 * (len(finished) - 1) + 2
    for name, changed in finished.items():
        assert (store.directory / name).stat().st_mtime_ns == changed
    assert not list((tmp_path / "out").glob(".*.unfinished"))


def test_an_error_costs_no_finished_shard(raw_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", SHARD_BYTES)
    whole = contents(build(raw_dir, tmp_path / "whole").directory)
    usage = collections.namedtuple("usage", "total used free")
    write, disk_usage, written = shards.write, shutil.disk_usage, []

    def full_after_five(shard, *args, **kwargs):
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(shard.index)
        write(shard, *args, **kwargs)

    monkeypatch.setattr(shards, "write", full_after_five)
    with pytest.raises(OSError, match="No space left"):
        build(raw_dir, tmp_path / "out")
    # No room either when it is tried again, and then there is.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(OSError, match=r"\d+ images of 8 px take"):
        build(raw_dir, tmp_path / "out")
    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    written.clear()
    monkeypatch.setattr(
        shards, "write", lambda shard, *a, **k: written.append(shard.index) or write(shard, *a, **k)
    )
    assert contents(build(raw_dir, tmp_path / "out").directory) == whole
    assert written == list(range(5, 12))


def test_what_no_run_could_do_better_leaves_nothing(raw_dir, tmp_path):
    for path in raw_dir.rglob("*.jpg"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of 35 images can be used"):
        build(raw_dir, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["hashes.csv"]


def test_names_what_stopped_runs_left_but_not_a_live_one(raw_dir, tmp_path, caplog):
    for name in ("dead", "live"):
        (tmp_path / "out" / f".{name}.unfinished").mkdir(parents=True)
    with (tmp_path / "out" / ".live.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        build(raw_dir, tmp_path / "out")
    assert ".dead.unfinished was left by a stopped run" in caplog.text
    assert ".live.unfinished" not in caplog.text


def test_the_name_tells_content_labels_and_settings_apart(raw_dir, tmp_path):
    records = sources.read_ham10000(raw_dir).records
    digests = [str(number) for number in range(35)]
    asked = []

    def name(records, digests, spec=SPEC):
        def runner(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            image_store.build(tmp_path / str(len(asked)), records, digests, spec, runner)
        (folder,) = (tmp_path / str(len(asked))).glob(".*.unfinished")
        asked.append(folder.name)
        return folder.name

    names = {
        name(records, digests),
        name(records, ["x", *digests[1:]]),
        name(records[1:], digests[1:]),
        name(records, digests, shards.Spec(SPEC.classes, SPEC.preprocess, "png", 8)),
        name(records, digests, shards.Spec(SPEC.classes, SPEC.preprocess, "raw", 9)),
        name(records, digests, shards.Spec(tuple("gfedcba"), SPEC.preprocess, "raw", 8)),
        name(
            records,
            digests,
            shards.Spec(SPEC.classes, Preprocess(clahe=True, image_size=8), "raw", 8),
        ),
    }
    assert len(names) == 7
    assert name(records, digests) in names


def prepare_in_process(raw_dir, prepared_dir):
    shards.SHARD_BYTES = SHARD_BYTES
    config = default_config()
    config.data.raw_dir, config.data.prepared_dir = raw_dir, prepared_dir
    config.data.image_size, config.data.min_side = 8, 8
    builder.prepare(config)


def test_killed_at_random_moments_it_ends_with_the_same_bytes(raw_dir, tmp_path):
    context = multiprocessing.get_context("forkserver")
    # Imported once, by a process without threads, so that a run takes a moment.
    context.set_forkserver_preload(["skinjax.data.builder", "tensorflow_datasets"])

    def start(out):
        process = context.Process(target=prepare_in_process, args=(str(raw_dir), str(out)))
        process.start()
        return process

    process = start(tmp_path / "warm")
    process.join()
    seconds = float("inf")
    for name in ("again", "whole"):  # twice, since a busy machine may be slow for a moment
        begin = time.perf_counter()
        process = start(tmp_path / name)
        process.join()
        seconds = min(seconds, time.perf_counter() - begin)
        assert process.exitcode == 0
    whole = contents(tmp_path / "whole")
    assert len(whole) > 30

    rng = random.Random(0)
    killed = unfinished = 0
    for number in range(20):
        out = tmp_path / f"killed{number}"
        process = start(out)
        time.sleep(rng.uniform(0.05, seconds))
        process.kill()
        process.join()
        killed += process.exitcode != 0
        unfinished += bool(list(out.glob("*/.*.unfinished/facts-*")))
        process = start(out)
        process.join()
        assert process.exitcode == 0
        assert contents(out) == whole
        shutil.rmtree(out)
    assert killed >= 10
    assert unfinished >= 1, "no kill hit the writing of shards"


def test_a_store_that_is_not_whole_is_refused(raw_dir, tmp_path):
    store = build(raw_dir, tmp_path / "out")
    (shard,) = store.directory.glob("*array_record*")
    np.testing.assert_equal(shard.stat().st_size > 0, True)
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{shard.name} has .* bytes, expected"):
        image_store.open_store(store.directory)
    with pytest.raises(InputError, match="cannot be read"):
        image_store.open_store(Path(tmp_path / "nowhere"))
