import builtins

import pytest

from skinjax.data import beam, builder, image_store, shards
from skinjax.errors import InputError

pytestmark = pytest.mark.filterwarnings("default")  # Beam's own, at import


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_gives_the_same_bytes_as_this_machine(config, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 8 * 8 * 3)
    here = builder.prepare(config)
    config.data.prepared_dir = str(tmp_path / "beam")
    there = builder.prepare(config, beam.runner(["--runner=DirectRunner"]))
    assert here.fingerprint == there.fingerprint
    assert len(list(there.store.glob("*array_record*"))) == 7
    assert contents(here.store) == contents(there.store)


def test_writes_only_what_is_missing(config, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 8 * 8 * 3)

    def interrupted(planned, directory, spec):
        for shard in planned[:3]:
            shards.write(shard, directory, spec)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        builder.prepare(config, interrupted)
    (unfinished,) = (tmp_path / "prepared").glob("ham10000/.*.unfinished")
    before = {path.name: path.stat().st_mtime_ns for path in unfinished.iterdir()}
    assert len(before) == 6
    prepared = builder.prepare(config, beam.runner(["--runner=DirectRunner"]))
    assert len(image_store.open_store(prepared.store).facts()) == 35
    for name, changed in before.items():
        assert (prepared.store / name).stat().st_mtime_ns == changed


def test_says_what_is_missing_or_unknown(monkeypatch):
    real_import = builtins.__import__

    def no_beam(name, *args, **kwargs):
        if name.startswith("apache_beam"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_beam)
    with pytest.raises(InputError, match=r"pip install 'skinjax\[beam\]'"):
        beam.runner([])


def test_refuses_a_runner_that_does_not_exist():
    with pytest.raises(InputError, match="Apache Beam has no runner Nonsense"):
        beam.runner(["--runner=Nonsense"])
