import numpy as np
import pytest

from skinjax.data import images, shards, sources


@pytest.fixture
def records(raw_dir):
    read = sources.read_ham10000(raw_dir).records
    return {"train": read[:20], "val": read[20:25], "test": read[25:]}


def write(directory, records, encoding="raw", image_size=8):
    directory.mkdir()
    return shards.write(
        directory, records, classes=list("abcdefg"), image_size=image_size, encoding=encoding
    )


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("encoding", shards.ENCODINGS)
def test_writes_what_images_decode_to(records, tmp_path, encoding):
    written, left_out = write(tmp_path / "out", records, encoding)
    assert written == {name: list(of_split) for name, of_split in records.items()}
    assert left_out == []
    # Not the order of writing: the order asked for.
    examples = shards.open_splits(tmp_path / "out", ("test", "train"))
    expected = (*records["test"], *records["train"])
    assert len(examples) == len(expected)
    for example, record in zip(examples, expected, strict=True):
        image_HWC = images.resize(images.decode(record.path), 8)
        assert example["image"].dtype == np.uint8
        tolerance = 40 if encoding == "jpeg" else 0
        np.testing.assert_allclose(example["image"], image_HWC, atol=tolerance)
        assert (example["label"], example["image_id"].decode()) == (record.label, record.image_id)


def test_the_same_input_gives_the_same_bytes(records, tmp_path):
    write(tmp_path / "a", records)
    write(tmp_path / "b", records)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_several_shards_are_one_split(records, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 3 * 8 * 8 * 3)
    # The whole second shard of train doesn't decode.
    for record in records["train"][2:5]:
        record.path.write_bytes(b"no image")
    written, left_out = write(tmp_path / "out", records)
    assert len(list((tmp_path / "out").glob("*-train.array_record-*-of-00007"))) == 7
    assert [row.image_id for row in left_out] == [r.image_id for r in records["train"][2:5]]
    assert left_out[0].reason == "does not decode: neither a JPEG nor a PNG file"
    examples = shards.open_splits(tmp_path / "out", ("train",))
    ids = [example["image_id"].decode() for example in examples]
    assert ids == [record.image_id for record in written["train"]]
    assert ids == [record.image_id for record in (*records["train"][:2], *records["train"][5:])]


def test_a_split_in_which_nothing_decodes_is_empty(records, tmp_path):
    for record in records["val"]:
        record.path.write_bytes(record.path.read_bytes()[:-30])
    written, left_out = write(tmp_path / "out", records)
    assert written["val"] == []
    assert len(left_out) == 5
    assert len(shards.open_splits(tmp_path / "out", ("train", "test"))) == 30


def test_an_image_is_its_array_its_bytes_or_left_out(records):
    record = records["train"][0]
    image_HWC = images.resize(images.decode(record.path), 8)
    raw = shards._prepare_image(record, image_size=8, encoding="raw")
    np.testing.assert_array_equal(raw, image_HWC)
    png = shards._prepare_image(record, image_size=8, encoding="png")
    assert png == images.encode_png(image_HWC)
    record.path.write_bytes(b"")
    assert shards._prepare_image(record, image_size=8, encoding="png") == sources.LeftOut(
        record.image_id, "does not decode: the file is empty"
    )


def test_an_error_while_decoding_ends_the_build(records, tmp_path, monkeypatch):
    def fail(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(images, "decode_bytes", fail)
    with pytest.raises(PermissionError, match="not yours"):
        write(tmp_path / "out", records)
