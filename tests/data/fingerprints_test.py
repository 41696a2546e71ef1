import fcntl
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from skinjax.data import fingerprints, sources


@pytest.fixture
def hashes(raw_dir, tmp_path):
    def of(folder=raw_dir):
        records = sources.read_ham10000(folder).records
        return fingerprints.hash_images(records, tmp_path / "cache" / "hashes.csv")

    return of


def test_is_the_same_for_a_copy_elsewhere(hashes, raw_dir, tmp_path):
    before = hashes()
    assert len(before) == len(set(before)) == 35
    image = raw_dir / "HAM10000_images_part_1" / "ISIC_0000000.jpg"
    assert before[0] == hashlib.sha256(image.read_bytes()).hexdigest()
    shutil.copytree(raw_dir, tmp_path / "copy", copy_function=shutil.copyfile)
    assert hashes(tmp_path / "copy") == before


def test_tells_changed_content_of_the_same_size(hashes, raw_dir):
    before = hashes()
    image = raw_dir / "HAM10000_images_part_1" / "ISIC_0000000.jpg"
    data = bytearray(image.read_bytes())
    data[-5] ^= 1
    image.write_bytes(data)
    after = hashes()
    assert after[0] != before[0]
    assert after[1:] == before[1:]


def test_combines_whatever_json_can_write():
    names = [fingerprints.combine({"a": value}) for value in (1, "1", [1], None, 1.5)]
    assert len(set(names)) == 5
    assert fingerprints.combine({"a": 1, "b": 2}) == fingerprints.combine({"b": 2, "a": 1})


@pytest.mark.parametrize("items", [[], [1], [{"b": 1, "a": "ä"}, (None, 2.5, "x")]])
def test_an_iterator_stands_for_its_list(items):
    content = {"list": items, "a b": {"y": 1, "x": [2]}, "empty": []}
    expected = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert fingerprints.combine(content) == expected
    assert fingerprints.combine(content | {"list": iter(items)}) == expected
    assert fingerprints.combine({}) == hashlib.sha256(b"{}").hexdigest()


def test_reads_only_what_changed(hashes, raw_dir, monkeypatch):
    before = hashes()
    hashed = []
    hash_file = fingerprints.hash_file
    monkeypatch.setattr(
        fingerprints, "hash_file", lambda path: hashed.append(Path(path).name) or hash_file(path)
    )
    assert hashes() == before
    assert hashed == []
    os.utime(raw_dir / "HAM10000_images_part_1" / "ISIC_0000002.jpg", (1, 1))
    assert hashes() == before
    assert hashed == ["ISIC_0000002.jpg"]


def test_cache_keeps_other_folders_and_forgets_old_states(hashes, raw_dir, tmp_path):
    hashes()
    shutil.copytree(raw_dir, tmp_path / "copy")
    hashes(tmp_path / "copy")
    os.utime(raw_dir / "HAM10000_images_part_1" / "ISIC_0000002.jpg", (1, 1))
    hashes()
    cache = tmp_path / "cache" / "hashes.csv"
    assert len(cache.read_text().splitlines()) == 70
    assert [path.name for path in cache.parent.iterdir()] == ["hashes.csv"]


@pytest.mark.parametrize("damage", ["a,b\n", "\0", "x,1,y,z\n"])
def test_a_broken_cache_is_made_again(hashes, tmp_path, damage):
    before = hashes()
    cache = tmp_path / "cache" / "hashes.csv"
    cache.write_text(damage)
    assert hashes() == before
    assert len(cache.read_text().splitlines()) == 35


def test_what_a_killed_run_left_is_written_over(hashes, tmp_path):
    before = hashes()
    whole = (tmp_path / "cache" / "hashes.csv").read_bytes()
    (tmp_path / "cache" / "hashes.csv").unlink()
    (tmp_path / "cache" / ".hashes.csv.writing").write_bytes(whole[:-5] + b"\n" + whole)
    assert hashes() == before
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["hashes.csv"]
    assert (tmp_path / "cache" / "hashes.csv").read_bytes() == whole


def test_while_another_run_writes_the_cache_is_let_be(hashes, tmp_path):
    (tmp_path / "cache").mkdir()
    with (tmp_path / "cache" / ".hashes.csv.writing").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        before = hashes()
        assert not (tmp_path / "cache" / "hashes.csv").exists()
    assert hashes() == before
    assert (tmp_path / "cache" / "hashes.csv").exists()
