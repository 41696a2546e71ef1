import os
import shutil
from pathlib import Path

import pytest

from skinjax.data import fingerprints, sources

SETTINGS = {"image_size": 8, "split": [0.7, 0.15, 0.15]}


@pytest.fixture
def name(raw_dir, tmp_path):
    def of(folder=raw_dir, settings=SETTINGS):
        reading = sources.read_ham10000(folder)
        return fingerprints.fingerprint(reading, settings, tmp_path / "cache" / "hashes.csv")

    return of


def test_is_the_same_for_a_copy_elsewhere(name, raw_dir, tmp_path):
    before = name()
    assert len(before) == 64
    shutil.copytree(raw_dir, tmp_path / "copy", copy_function=shutil.copyfile)
    assert name(tmp_path / "copy") == before


def test_tells_settings_table_and_images_apart(name, raw_dir):
    names = [name(), name(settings={**SETTINGS, "image_size": 9})]
    table = raw_dir / "HAM10000_metadata.csv"
    table.write_text(table.read_text().replace("female", "male"))
    names.append(name())
    image = raw_dir / "HAM10000_images_part_1" / "ISIC_0000000.jpg"
    data = bytearray(image.read_bytes())
    data[-5] ^= 1  # of the same size, as an image of other content may be
    image.write_bytes(data)
    names.append(name())
    image.unlink()
    names.append(name())
    assert len(set(names)) == len(names)


def test_reads_only_what_changed(name, raw_dir, monkeypatch):
    before = name()
    hashed = []
    hash_file = fingerprints.hash_file
    monkeypatch.setattr(
        fingerprints, "hash_file", lambda path: hashed.append(Path(path).name) or hash_file(path)
    )
    assert name() == before
    assert hashed == ["HAM10000_metadata.csv"]
    os.utime(raw_dir / "HAM10000_images_part_1" / "ISIC_0000002.jpg", (1, 1))
    assert name() == before
    assert hashed[1:] == ["ISIC_0000002.jpg", "HAM10000_metadata.csv"]


def test_cache_keeps_other_folders_and_forgets_old_states(name, raw_dir, tmp_path):
    name()
    shutil.copytree(raw_dir, tmp_path / "copy")
    name(tmp_path / "copy")
    os.utime(raw_dir / "HAM10000_images_part_1" / "ISIC_0000002.jpg", (1, 1))
    name()
    cache = tmp_path / "cache" / "hashes.csv"
    assert len(cache.read_text().splitlines()) == 70
    assert [path.name for path in cache.parent.iterdir()] == ["hashes.csv"]


@pytest.mark.parametrize("damage", ["a,b\n", "\0", "x,1,y,z\n"])
def test_a_broken_cache_is_made_again(name, tmp_path, damage):
    before = name()
    cache = tmp_path / "cache" / "hashes.csv"
    cache.write_text(damage)
    assert name() == before
    assert len(cache.read_text().splitlines()) == 35
