import collections
import csv
import errno
import json
import multiprocessing
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from skinjax.config import default_config
from skinjax.data import builder, data_report, images, shards, sources
from skinjax.errors import InputError


def prepare_in_process(raw_dir, prepared_dir, queue):
    config = default_config()
    config.data.raw_dir, config.data.prepared_dir = raw_dir, prepared_dir
    config.data.image_size, config.data.min_side = 8, 8
    prepared = builder.prepare(config)
    queue.put((prepared.directory.name, len(prepared.source(("train",)))))


def built_folders(config):
    """All that was built but for the cache of hashes: stores, and splits inside them."""
    folder = Path(config.data.prepared_dir) / config.data.dataset
    stores = [path for path in folder.glob("*") if path.name != "hashes.csv"]
    return sorted(path.name for path in (*stores, *folder.glob("*/*split-*")))


def test_prepares_every_image_once_and_says_so(config):
    prepared = builder.prepare(config)
    assert prepared.directory.name == f"split-{prepared.fingerprint[:12]}"
    assert prepared.directory.parent == prepared.store
    assert prepared.store.parent.name == "ham10000"
    assert prepared.image_size == 8
    np.testing.assert_array_equal(np.sum(list(prepared.counts.values()), axis=0), [5] * 7)

    records = {record.image_id: record for record in sources.read(config).records}
    rows = [row for name in prepared.counts for row in prepared.table(name)]
    assert sorted(row["image_id"] for row in rows) == sorted(records)
    source = prepared.source(tuple(prepared.counts))
    assert len(source) == len(rows) == 35
    for row, example in zip(rows, source, strict=True):
        record = records[row["image_id"]]
        expected_HWC = images.resize(images.decode(record.path), 8)
        np.testing.assert_array_equal(example["image"], expected_HWC)
        assert prepared.classes[example["label"]] == row["label"]
        assert example["label"] == record.label
        assert (row["age"], row["sex"], row["site"]) == (record.age, "female", "back")
        assert (row["lesion_id"], row["source"]) == (record.lesion_id, "HAM10000")


def test_writes_split_and_reports(config):
    prepared = builder.prepare(config)
    with (prepared.directory / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_id", "lesion_id", "label", "split"]
    splits_of_lesion = collections.defaultdict(set)
    for row in rows:
        splits_of_lesion[row["lesion_id"]].add(row["split"])
    assert all(len(of_lesion) == 1 for of_lesion in splits_of_lesion.values())
    statistics = json.loads((prepared.directory / "split.json").read_text())
    for name, counts in prepared.counts.items():
        of_split = [row for row in rows if row["split"] == name]
        assert statistics["images"][name] == len(of_split) == sum(counts)
        assert statistics["lesions"][name] == len({row["lesion_id"] for row in of_split})
        assert statistics["images_by_class"][name] == dict(
            zip(prepared.classes, counts, strict=True)
        )
    report = json.loads((prepared.directory / "data_report.json").read_text())
    assert (report["images"], report["left_out"]) == (35, 0)
    assert report["lesions_with_several_classes"] == {"count": 0, "lesion_ids": []}


def test_reports_lesions_with_several_classes(config, raw_dir, caplog):
    table = raw_dir / "HAM10000_metadata.csv"
    # Lesions 4 and 3 have images 32 and 31 as well, of classes mel and df.
    text = table.read_text().replace("ISIC_0000032,mel", "ISIC_0000032,nv")
    table.write_text(text.replace("ISIC_0000031,df", "ISIC_0000031,nv"))
    with caplog.at_level("WARNING"):
        prepared = builder.prepare(config)
    report = json.loads((prepared.directory / "data_report.json").read_text())
    expected = {"count": 2, "lesion_ids": ["HAM_0000003", "HAM_0000004"]}
    assert report["lesions_with_several_classes"] == expected
    assert "2 lesions have images of several classes" in caplog.text


def test_a_second_run_decodes_nothing(config, monkeypatch):
    first = builder.prepare(config)
    monkeypatch.setattr(images, "decode_checked", lambda *_, **__: pytest.fail("decoded it again"))
    monkeypatch.setattr(shards, "write", lambda *_, **__: pytest.fail("wrote it again"))
    assert builder.prepare(config) == first


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", 9),
        ("encoding", "png"),
        ("resize", "pad"),
        ("preprocess", {"clahe": True}),
        ("min_side", 10),
    ],
)
def test_a_changed_setting_builds_the_images_anew(config, name, value):
    first = builder.prepare(config)
    config.data.update({name: value})
    second = builder.prepare(config)
    assert first.store != second.store
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split", (0.6, 0.2, 0.2)),
        ("split_seed", 1),
        ("folds", 3),
        ("near_duplicates", False),
        ("duplicates", "drop"),
    ],
)
def test_a_changed_split_builds_no_image_anew(config, monkeypatch, name, value):
    first = builder.prepare(config)
    monkeypatch.setattr(images, "decode_checked", lambda *_, **__: pytest.fail("decoded it again"))
    config.data[name] = value
    config.data.fold = 0 if name == "folds" else -1
    second = builder.prepare(config)
    assert first.store == second.store
    assert first.directory != second.directory


def test_folds_are_each_for_validation_once(config):
    config.data.folds = 3
    seen, tests = [], []
    for fold in range(3):
        config.data.fold = fold
        prepared = builder.prepare(config)
        seen += [row["image_id"] for row in prepared.table("val")]
        tests.append([row["image_id"] for row in prepared.table("test")])
    assert tests[0] == tests[1] == tests[2]
    assert sorted(seen + tests[0]) == [f"ISIC_{number:07d}" for number in range(35)]


def test_copies_stay_in_one_split_and_are_reported(config, raw_dir, caplog):
    # Images 1 (bcc), 8 (bcc) and 9 (bkl) of lesions 1, 8 and 9.
    folders = [raw_dir / f"HAM10000_images_part_{number}" for number in (1, 2)]
    original = folders[1] / "ISIC_0000001.jpg"
    for copy in (folders[0] / "ISIC_0000008.jpg", folders[1] / "ISIC_0000009.jpg"):
        shutil.copy(original, copy)
    ids = ["ISIC_0000001", "ISIC_0000008", "ISIC_0000009"]
    with caplog.at_level("WARNING"):
        prepared = builder.prepare(config)
    assert "1 groups of images with the same content, e.g. ISIC_0000001, ISIC_0" in caplog.text
    found = json.loads((prepared.directory / "data_report.json").read_text())["duplicates"]
    assert found["exact"] == [ids]
    assert found["under_several_labels"] == [dict(zip(ids, ("bcc", "bcc", "bkl"), strict=True))]
    split_of = split_of_image(prepared)
    assert len({split_of[image_id] for image_id in ids}) == 1

    config.data.duplicates = "drop"
    left = split_of_image(builder.prepare(config))
    assert not left.keys() & set(ids)
    assert len(left) == 32
    # Under one label, the first is kept.
    table = raw_dir / "HAM10000_metadata.csv"
    table.write_text(table.read_text().replace("ISIC_0000009,bkl", "ISIC_0000009,bcc"))
    left = split_of_image(builder.prepare(config))
    assert left.keys() & set(ids) == {"ISIC_0000001"}


def test_the_copy_that_a_published_split_keeps_is_the_one_not_dropped(tmp_path):
    rng = np.random.default_rng(0)
    for split, numbers in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        for number in numbers:
            for name in ("a", "b"):
                folder = tmp_path / "raw" / split / name
                folder.mkdir(parents=True, exist_ok=True)
                image_HWC = rng.integers(0, 256, (32, 32, 3), np.uint8)
                (folder / f"{name}{number}.png").write_bytes(images.encode_png(image_HWC))
    shutil.copy(tmp_path / "raw/train/a/a0.png", tmp_path / "raw/val/a/copy.png")
    config = default_config()
    config.data.update(dataset="folder", raw_dir=str(tmp_path / "raw"), image_size=8)
    config.data.update(prepared_dir=str(tmp_path / "prepared"), duplicates="drop")
    prepared = builder.prepare(config)
    split_of = split_of_image(prepared)
    assert "a0" not in split_of
    assert split_of["copy"] == "val"
    report = json.loads((prepared.directory / "data_report.json").read_text())
    reasons = {"lesion, patient or picture published in several splits": 1}
    assert report["left_out_by_reason"] == reasons
    config.data.strict = True
    with pytest.raises(InputError, match="1 rows give no image and 24 do"):
        builder.prepare(config)


def test_nothing_left_is_an_error(config, raw_dir):
    config.data.duplicates = "drop"
    first = next(raw_dir.rglob("ISIC_0000000.jpg")).read_bytes()
    for path in raw_dir.rglob("*.jpg"):
        path.write_bytes(first)
    with pytest.raises(InputError, match="none of 35 images is left"):
        builder.prepare(config)


def test_thousands_of_copies_take_no_time(config, raw_dir):
    records = sources.read(config).records * 200
    copies = [list(range(len(records)))]
    near = [(0, index) for index in range(1, len(records))]
    reading = sources.read(config)
    report = data_report.compute(config.data, reading, [], [], records, copies, near)
    assert report["duplicates"]["near"] == []


def test_empty_files_are_not_copies_of_each_other(config, raw_dir):
    for number in (0, 1, 2):
        (
            raw_dir / f"HAM10000_images_part_{1 + number % 2}" / f"ISIC_000000{number}.jpg"
        ).write_bytes(b"")
    prepared = builder.prepare(config)
    report = json.loads((prepared.directory / "data_report.json").read_text())
    assert report["duplicates"]["exact"] == []
    assert report["left_out_by_reason"] == {"the file is empty": 3}


def test_opens_a_prepared_folder_with_its_settings(config, raw_dir):
    config.data.resize = "pad"
    first = builder.prepare(config)
    shutil.rmtree(raw_dir)
    other = default_config()
    other.data.directory = str(first.store.parent)
    other.data.image_size = 224
    with pytest.raises(InputError, match=r"prepared with another data\.image_size \(8, and 224"):
        builder.prepare(other)
    other.data.image_size = 0
    other.data.folds = 5
    with pytest.raises(InputError, match=r"data\.folds is 5, and .* was prepared with 0"):
        builder.settled(other)
    other.data.folds = 0
    other.data.split_file = "split.csv"
    with pytest.raises(InputError, match=r"data\.split_file and data\.directory are both set"):
        builder.settled(other)
    other.data.split_file = ""
    taken = builder.settled(other)
    assert (taken.data.image_size, taken.data.resize) == (8, "pad")
    assert taken.data.directory == str(first.directory)
    assert other.data.image_size == 0
    assert builder.prepare(taken) == first
    assert builder.planned_counts(taken)[0] == first.classes


def test_says_what_is_planned_without_decoding(config, monkeypatch):
    prepared = builder.prepare(config)
    monkeypatch.setattr(images, "decode_checked", lambda *_, **__: pytest.fail("decoded it"))
    classes, counts = builder.planned_counts(config)
    assert classes == prepared.classes
    assert {name: tuple(of_split) for name, of_split in counts.items()} == prepared.counts


def test_a_changed_image_builds_anew(config, raw_dir):
    first = builder.prepare(config)
    image = raw_dir / "HAM10000_images_part_1" / "ISIC_0000000.jpg"
    shutil.copy(image.with_name("ISIC_0000014.jpg"), image)
    assert builder.prepare(config).directory != first.directory


def test_left_out_files_are_listed_and_do_not_move_the_others(config, raw_dir):
    splits_before = split_of_image(builder.prepare(config))
    broken = raw_dir / "HAM10000_images_part_2" / "ISIC_0000013.jpg"
    broken.write_bytes(broken.read_bytes()[:-50])
    (raw_dir / "HAM10000_images_part_2" / "ISIC_0000033.jpg").unlink()
    prepared = builder.prepare(config)
    report = json.loads((prepared.directory / "data_report.json").read_text())
    assert (report["images"], report["left_out"]) == (33, 2)
    assert report["left_out_by_reason"] == {"no image file": 1, "the JPEG is cut short": 1}
    assert report["left_out_rows"] == [
        {"image_id": "ISIC_0000033", "reason": "no image file"},
        {"image_id": "ISIC_0000013", "reason": "the JPEG is cut short"},
    ]
    # Class nv lost an image of the table, so the shares of nv may move; no other class may.
    after = split_of_image(prepared)
    assert "ISIC_0000013" not in after
    for image_id, split in after.items():
        assert splits_before[image_id] == split or int(image_id[-2:]) % 7 == 5


def split_of_image(prepared):
    with (prepared.directory / "split.csv").open() as file:
        return {row["image_id"]: row["split"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("damage", ["unlink", "truncate"])
def test_strict_makes_left_out_rows_an_error(config, raw_dir, damage):
    config.data.strict = True
    image = raw_dir / "HAM10000_images_part_2" / "ISIC_0000013.jpg"
    if damage == "unlink":
        image.unlink()
    else:
        image.write_bytes(image.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"1 rows give no image and 34 do,.*ISIC_0000013: "):
        builder.prepare(config)
    assert not [name for name in built_folders(config) if "split" in name]


def test_nothing_readable_is_an_error(config, raw_dir):
    for image in raw_dir.rglob("*.jpg"):
        image.write_bytes(b"<html>quota exceeded</html>")
    with pytest.raises(InputError, match=r"none of 35 images can be used.*neither a JPEG"):
        builder.prepare(config)
    assert built_folders(config) == []


def test_a_class_absent_from_training_is_an_error(config, raw_dir):
    table = raw_dir / "HAM10000_metadata.csv"
    whole = table.read_text()
    table.write_text("\n".join(line for line in whole.splitlines() if ",df," not in line))
    with pytest.raises(InputError, match="no image of class df in the training split"):
        builder.prepare(config)
    # The same when they are in the table but don't decode.
    table.write_text(whole)
    for number in range(3, 35, 7):
        for image in raw_dir.rglob(f"ISIC_{number:07d}.jpg"):
            image.write_bytes(b"broken")
    with pytest.raises(InputError, match="no image of class df in the training split"):
        builder.prepare(config)
    assert not [name for name in built_folders(config) if "split" in name]


def test_a_lesion_in_two_splits_stops_the_build(config, monkeypatch):
    # Lesion 0 has images 0 and 28.
    leaking_N = np.array(["train"] * 28 + ["test"] * 7)
    monkeypatch.setattr(builder.splits, "grouped_split", lambda *_: leaking_N)
    with pytest.raises(InputError, match=r"HAM_0000000"):
        builder.prepare(config)
    assert built_folders(config) == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoding", "gif", "data.encoding is 'gif'"),
        ("image_size", 1, "data.image_size is 1"),
        ("num_threads", -1, "data.num_threads is -1: expected 0"),
        ("num_workers", -2, "data.num_workers is -2: expected 0"),
        ("prepared_dir", "", "data.prepared_dir is empty"),
        ("split", (0.5, 0.1, 0.1), "data.split is"),
        ("raw_dir", "nowhere", "no folder nowhere"),
    ],
)
def test_a_wrong_setting_writes_nothing(config, tmp_path, name, value, message):
    config.data[name] = value
    with pytest.raises(InputError, match=message):
        builder.prepare(config)
    assert not (tmp_path / "prepared").exists()


def test_a_disk_too_small_is_found_before_the_work(config, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10_000, 9_000, 1_000))
    monkeypatch.setattr(shards, "write", lambda *_, **__: pytest.fail("began to write"))
    with pytest.raises(OSError, match="35 images of 8 px take") as error:
        builder.prepare(config)
    assert error.value.errno == errno.ENOSPC


def test_a_disk_that_fills_up_leaves_nothing_half_done(config):
    # The limit on a file's size is the nearest thing to a full disk without a disk to fill.
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    config.data.image_size = 64
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OSError, match="array_record"):
            builder.prepare(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    (unfinished,) = Path(config.data.prepared_dir).glob("ham10000/.*.unfinished")
    assert not list(unfinished.iterdir())  # no half shard, and no whole one yet
    assert len(builder.prepare(config).source(("train", "val", "test"))) == 35


def test_two_processes_prepare_one_data_set(config):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (config.data.raw_dir, config.data.prepared_dir, queue)
    processes = [context.Process(target=prepare_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert results[0] == results[1]
    assert len(built_folders(config)) == 2


def test_prepares_the_synthetic_data_set(config):
    config.data.dataset = "synthetic"
    config.data.raw_dir = ""
    config.synthetic.num_lesions = 21
    config.synthetic.image_size = 16
    prepared = builder.prepare(config)
    assert min(prepared.counts["train"]) > 0
    assert prepared.table("train")[0]["source"] == "synthetic"


def test_no_tensorflow_is_imported(config):
    builder.prepare(config).source(("train",))[0]
    assert "tensorflow" not in sys.modules
