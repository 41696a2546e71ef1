import errno

import numpy as np
import pytest

from skinjax.data import duplicates, images, shards, sources
from skinjax.data.preprocess import Preprocess
from skinjax.data.records import LeftOut


@pytest.fixture
def records(raw_dir):
    return sources.read_ham10000(raw_dir).records


def spec(encoding="raw", min_side=8, **settings):
    preprocess = Preprocess(**{"image_size": 8, **settings})
    return shards.Spec(tuple("abcdefg"), preprocess, encoding, min_side)


def write(directory, records, of=None):
    of = of or spec()
    directory.mkdir()
    planned = shards.plan(records, of)
    lengths = []
    for shard in planned:
        shards.write(shard, directory, of)
        facts = shards.read_facts(directory / shard.facts_name)
        lengths.append(sum(not one.reason for one in facts))
    shards.write_metadata(directory, planned, lengths, of)
    return planned


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("encoding", shards.ENCODINGS)
def test_writes_what_preprocessing_makes_of_the_files(records, tmp_path, encoding):
    of = spec(encoding, clahe=True, resize="pad")
    write(tmp_path / "out", records, of)
    examples = shards.open_shards(tmp_path / "out")
    assert len(examples) == len(records)
    for example, record in zip(examples, records, strict=True):
        image_HWC = of.preprocess(images.decode(record.path))
        assert example["image"].dtype == np.uint8
        tolerance = 100 if encoding == "jpeg" else 0
        np.testing.assert_allclose(example["image"], image_HWC, atol=tolerance)
        assert (example["label"], example["image_id"].decode()) == (record.label, record.image_id)


def test_facts_are_of_the_file_as_published(records, tmp_path):
    (shard,) = write(tmp_path / "out", records, spec(color_constancy=True))
    facts = list(shards.read_facts(tmp_path / "out" / shard.facts_name))
    assert [one.image_id for one in facts] == [record.image_id for record in records]
    expected = duplicates.perceptual_hash(images.decode(records[3].path))
    assert facts[3] == shards.ImageFacts(records[3].image_id, "", 16, 24, "rgb", expected)


def test_the_same_input_gives_the_same_bytes(records, tmp_path):
    write(tmp_path / "a", records)
    write(tmp_path / "b", records)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_plans_shards_of_even_length(records, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 * 8 * 8 * 3)
    planned = shards.plan(records, spec())
    assert [len(shard.records) for shard in planned] == [3, 4, 4, 4, 4, 4, 4, 4, 4]
    assert sum((shard.records for shard in planned), ()) == records
    assert planned[2].name == "skin_lesions-images.array_record-00002-of-00009"


def test_a_shard_in_which_nothing_decodes_is_empty(records, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 8 * 8 * 3)
    for record in records[5:10]:
        record.path.write_bytes(b"no image")
    planned = write(tmp_path / "out", records)
    facts = list(shards.read_facts(tmp_path / "out" / planned[1].facts_name))
    assert shards.left_out(facts) == [
        LeftOut(record.image_id, one.reason)
        for record, one in zip(records[5:10], facts, strict=True)
    ]
    assert all(one.reason.startswith("neither a JPEG nor a PNG") for one in facts)
    examples = shards.open_shards(tmp_path / "out")
    ids = [example["image_id"].decode() for example in examples]
    assert ids == [record.image_id for record in (*records[:5], *records[10:])]


def test_says_why_a_file_gives_no_image(records):
    record = records[0]
    facts, example = shards.process(record, spec(min_side=17))
    assert example is None
    assert facts.reason.startswith("too small: 24 x 16 pixels, expected 17")
    record.path.unlink()
    facts, example = shards.process(record, spec())
    assert (facts.reason, example) == ("no image file", None)


def test_a_written_shard_is_not_written_again(records, tmp_path, monkeypatch):
    write(tmp_path / "out", records)
    (shard,) = shards.plan(records, spec())
    monkeypatch.setattr(shards, "process", lambda *_, **__: pytest.fail("processed it again"))
    shards.write(shard, tmp_path / "out", spec())
    # Whole is what has its table of facts: without, it is written anew.
    (tmp_path / "out" / shard.facts_name).unlink()
    with pytest.raises(pytest.fail.Exception, match="processed it again"):
        shards.write(shard, tmp_path / "out", spec())


def test_an_error_while_decoding_ends_the_shard(records, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise PermissionError("not yours")

    monkeypatch.setattr(images, "decode_checked", fail)
    with pytest.raises(PermissionError, match="not yours"):
        write(tmp_path / "out", records)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_told_as_one(records, tmp_path, monkeypatch):
    from array_record.python import array_record_module

    class Full:
        def __init__(self, path, options):
            open(path, "w").close()

        def write(self, example):
            raise RuntimeError("INTERNAL: No space left on device")

    monkeypatch.setattr(array_record_module, "ArrayRecordWriter", Full)
    with pytest.raises(OSError, match="No space left") as error:
        write(tmp_path / "out", records)
    assert error.value.errno == errno.ENOSPC
    assert list((tmp_path / "out").iterdir()) == []
