import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from skinjax.config import default_config
from skinjax.data import sources
from skinjax.data.labels import ISIC9_CLASSES
from skinjax.download import (
    ATTRIBUTION,
    TransferError,
    archive,
    catalog,
    delivery,
    download,
    kaggle,
    orders,
    server,
    state,
    stock,
)
from skinjax.errors import InputError

LISTING = (
    "/api/datasets/:persistentId/versions/:latest-published/files"
    "?persistentId=doi:10.7910/DVN/DBW86T"
)
HEADER = "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset\n"


def jpeg(seed):
    image_HWC = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), np.uint8)
    return cv2.imencode(".jpg", image_HWC)[1].tobytes()


@pytest.fixture
def ham(zipped):
    """The three published files of a HAM10000 of four images."""
    images = {f"ISIC_{n:07d}.jpg": jpeg(n) for n in range(4)}
    rows = [f"HAM_{n},ISIC_{n:07d},nv,histo,50.0,male,back,rosendahl\n" for n in range(4)]
    halves = [dict(list(images.items())[:2]), dict(list(images.items())[2:])]
    return {
        "HAM10000_metadata.csv": (HEADER + "".join(rows)).encode(),
        "HAM10000_images_part_1.zip": zipped(halves[0]),
        "HAM10000_images_part_2.zip": zipped(halves[1]),
    }


def small(name, images=4, sizes=None):
    """A data set of the catalog with as few images as here, and what is published of them."""
    dataset = catalog.dataset(name)
    publications = []
    for one in dataset.publications:
        known = sizes or {}
        files = tuple(
            replace(
                file,
                size=len(known[file.name]) if file.name in known else None,
                md5=hashlib.md5(known[file.name]).hexdigest() if file.name in known else "",
                rows=None,
            )
            for file in one.files
        )
        counts = tuple(replace(count, images=images) for count in one.counts)
        publications.append(replace(one, files=files, counts=counts))
    return replace(dataset, publications=tuple(publications))


@pytest.fixture
def dataverse(site, ham, listing):
    """Serves HAM10000; the converted table is what comes without format=original."""
    site.files[LISTING] = listing(ham)
    for number, (name, content) in enumerate(ham.items(), 1):
        original = "?format=original" if name.endswith(".csv") else ""
        site.files[f"/api/access/datafile/{number}{original}"] = content
    site.files["/api/access/datafile/1"] = ham["HAM10000_metadata.csv"].replace(b",", b"\t")
    return site


@pytest.fixture
def deliver(site, tmp_path, patience):
    def run(dataset, **options):
        options = {"addresses": site.addresses, "patience": patience, **options}
        delivery.deliver(dataset, tmp_path / "out", **options)
        return tree(tmp_path / "out")

    run.out = tmp_path / "out"
    return run


def tree(folder):
    """What is in a folder, without the state."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    return {name: content for name, content in names.items() if not name.startswith(".download/")}


def unpacked():
    """What HAM10000 looks like when it is there."""
    return {
        ATTRIBUTION,
        "HAM10000_metadata.csv",
        *(f"HAM10000_images_part_1/ISIC_{n:07d}.jpg" for n in (0, 1)),
        *(f"HAM10000_images_part_2/ISIC_{n:07d}.jpg" for n in (2, 3)),
    }


@pytest.fixture
def isic9(zipped):
    """Returns Kaggle's archive of the nine classes: three images in each folder, and others."""

    def make(
        *others, top="Skin cancer ISIC The International Skin Imaging Collaboration", without=()
    ):
        folders = [f"{part}/{name}" for part in ("Train", "Test") for name in ISIC9_CLASSES]
        names = [f"{one}/{n}.jpg" for one in folders if one not in without for n in range(3)]
        return zipped({f"{top}/{name}": jpeg(n) for n, name in enumerate([*names, *others])})

    return make


def test_isic9_is_ready_to_be_read(deliver, isic9, tmp_path):
    put(tmp_path / "have", {"skin-cancer9-classesisic.zip": isic9()})
    deliver(small("isic9", 54), archives=[tmp_path / "have"])
    config = default_config()
    config.data.dataset, config.data.raw_dir = "isic9", str(deliver.out)
    assert len(sources.read(config).records) == 54


def test_ham10000_from_dataverse_is_ready_to_be_read(dataverse, ham, deliver):
    found = deliver(small("ham10000"))
    assert set(found) == unpacked()
    assert found["HAM10000_metadata.csv"] == ham["HAM10000_metadata.csv"]
    assert b"CC BY-NC 4.0" in found[ATTRIBUTION]
    assert b"10.7910/DVN/DBW86T" in found[ATTRIBUTION]
    config = default_config()
    config.data.dataset, config.data.raw_dir = "ham10000", str(deliver.out)
    reading = sources.read(config)
    assert len(reading.records) == 4
    assert reading.left_out == ()


def test_a_second_call_only_checks(dataverse, ham, deliver):
    first = deliver(small("ham10000"))
    dataverse.got.clear()
    assert deliver(small("ham10000")) == first
    assert dataverse.got == []


def test_the_state_remembers_the_hashes(dataverse, ham, deliver):
    deliver(small("ham10000"))
    entries = json.loads((deliver.out / ".download" / "state.json").read_text())["files"]
    assert {name: entry["sha256"] for name, entry in entries.items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in ham.items()
    }


def test_what_is_lost_afterwards_is_fetched_again(dataverse, ham, deliver):
    first = deliver(small("ham10000"))
    (deliver.out / "HAM10000_images_part_2" / "ISIC_0000003.jpg").unlink()
    (deliver.out / "HAM10000_images_part_2" / "of the user").write_text("stays")
    (deliver.out / "HAM10000_metadata.csv").write_text("cut off")
    dataverse.got.clear()
    found = deliver(small("ham10000"))
    assert found.pop("HAM10000_images_part_2/of the user") == b"stays"
    assert found == first
    assert dataverse.gets("/api/access/datafile/2") == []
    assert dataverse.gets("/api/access/datafile/3") == [None]


def test_archives_are_kept_on_demand(dataverse, ham, deliver):
    found = deliver(small("ham10000"), keep_archives=True)
    assert set(found) == unpacked() | set(ham)
    assert {name: found[name] for name in ham} == ham
    assert deliver(small("ham10000")) == found  # nor does a later call delete them


def test_without_the_listing_the_known_numbers_are_used(dataverse, ham, deliver):
    dataverse.plans[LISTING] = [{"status": 503}] * 9
    table, one, two = ham.values()
    dataverse.files["/api/access/datafile/4338392?format=original"] = table
    dataverse.files["/api/access/datafile/3172585"] = one
    dataverse.files["/api/access/datafile/3172584"] = two
    assert set(deliver(small("ham10000", sizes=ham))) == unpacked()


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"data": [{"dataFile": 7}, 8]}', b"{}"])
def test_a_listing_of_another_form_is_no_crash(dataverse, ham, deliver, answer):
    dataverse.files[LISTING] = answer
    with pytest.raises(TransferError, match=r"datafile/4338392\?format=original: .* 404"):
        deliver(small("ham10000"))


def test_a_stopped_download_goes_on(dataverse, ham, deliver):
    dataverse.plans["/api/access/datafile/3"] = [{"cut": 500}, *[{"status": 503}] * 9]
    with pytest.raises(TransferError, match=r"503.*goes on where it stopped"):
        deliver(small("ham10000"))
    assert set(tree(deliver.out)) == {
        ATTRIBUTION, "HAM10000_metadata.csv", "HAM10000_images_part_1.zip"
    }  # fmt: skip
    dataverse.plans.clear()
    dataverse.got.clear()
    assert set(deliver(small("ham10000"))) == unpacked()
    assert dataverse.gets("/api/access/datafile/2") == []
    assert dataverse.gets("/api/access/datafile/3") == ["bytes=500-"]


def test_wrong_bytes_never_get_the_name(dataverse, ham, deliver):
    wrong = ham["HAM10000_images_part_1.zip"][:-1] + b"!"
    dataverse.plans["/api/access/datafile/2"] = [{"body": wrong}] * 9
    with pytest.raises(TransferError, match=r"MD5 .* 2 times; download HAM10000_images_part_1.zip"):
        deliver(small("ham10000"))
    assert set(tree(deliver.out)) == {ATTRIBUTION, "HAM10000_metadata.csv"}


@pytest.fixture
def isic(site, zipped):
    """Serves ISIC 2019, with ETags that are no MD5."""
    folder = "ISIC_2019_Training_Input"
    images = {f"{folder}/ISIC_{n}_downsampled.jpg": jpeg(n) for n in range(3)}
    site.files["/2019/ISIC_2019_Training_GroundTruth.csv"] = b"image,MEL,NV\r\n"
    site.files["/2019/ISIC_2019_Training_Metadata.csv"] = b"image,age_approx\r\n"
    site.files["/2019/ISIC_2019_Training_Input.zip"] = zipped(
        {f"{folder}/LICENSE.txt": b"CC", **images}
    )
    return site


def test_isic2019(isic, deliver):
    assert set(deliver(small("isic2019", 3))) == {
        ATTRIBUTION,
        "ISIC_2019_Training_GroundTruth.csv",
        "ISIC_2019_Training_Metadata.csv",
        "ISIC_2019_Training_Input/LICENSE.txt",
        *(f"ISIC_2019_Training_Input/ISIC_{n}_downsampled.jpg" for n in range(3)),
    }


def test_isic2018(site, zipped, deliver):
    table = "ISIC2018_Task3_Training_LesionGroupings.csv"
    site.files[f"/2018/{table}"] = b"image,lesion_id\n"
    expected = {ATTRIBUTION, table}
    for part in ("Training", "Validation", "Test"):
        for kind, member in (("Input", "x.jpg"), ("GroundTruth", "x.csv")):
            name = f"ISIC2018_Task3_{part}_{kind}"
            site.files[f"/2018/{name}.zip"] = zipped({f"{name}/{member}": b"1"})
            expected.add(f"{name}/{member}")
    assert set(deliver(small("isic2018", 1))) == expected


def test_sizes_are_had_without_head(isic, deliver):
    isic.heads = False
    assert len(deliver(small("isic2019", 3))) == 7


@pytest.mark.parametrize("images", [2, 4])
def test_another_number_of_images_than_published(isic, deliver, images):
    with pytest.raises(InputError, match=f"Input.zip: 3 images; {images} are published") as error:
        deliver(small("isic2019", images))
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="3 images"):  # and is not taken for done
        deliver(small("isic2019", images))


def test_a_damaged_archive_is_fetched_again_by_the_next_call(isic, deliver):
    path = "/2019/ISIC_2019_Training_Input.zip"
    isic.plans[path] = [{"body": isic.files[path][:-30], "etag": '"abc-2"'}]
    isic.heads = False  # which would tell the size
    with pytest.raises(InputError, match=r"no whole zip archive.*downloads it again"):
        deliver(small("isic2019", 3))
    assert not list(deliver.out.glob("*.zip"))
    assert len(deliver(small("isic2019", 3))) == 7


def test_a_login_page_is_no_table(isic, deliver):
    path = "/2019/ISIC_2019_Training_Metadata.csv"
    page = b"<!DOCTYPE html><html>Log in</html>"
    isic.files[path] = page
    with pytest.raises(InputError, match="answered with a web page, not with a table"):
        deliver(small("isic2019", 3))
    assert not (deliver.out / Path(path).name).exists()


def test_a_disk_that_is_too_small_is_told_before(isic, deliver, monkeypatch):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: type("", (), {"free": 4000}))
    with pytest.raises(
        OSError, match=r"downloading to .* needs .* kB and 4.0 kB are free"
    ) as error:
        deliver(small("isic2019", 3))
    assert error.value.errno == 28
    assert not [path for method, path, _ in isic.got if method == "GET"]


def test_a_full_disk_leaves_what_can_be_gone_on_with(isic, deliver, monkeypatch):
    real = archive._write

    def full(file, member, *rest):
        if "ISIC_1" in str(member.path):
            raise OSError(28, "No space left on device")
        real(file, member, *rest)

    monkeypatch.setattr(archive, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        deliver(small("isic2019", 3))
    assert not (deliver.out / "ISIC_2019_Training_Input").exists()
    monkeypatch.undo()
    isic.got.clear()
    assert len(deliver(small("isic2019", 3))) == 7
    assert isic.got == []


def test_another_data_set_in_the_folder(isic, dataverse, deliver):
    deliver(small("isic2019", 3))
    with pytest.raises(InputError, match="holds the data set isic2019, and ham10000 was asked"):
        deliver(small("ham10000"))


def test_a_folder_of_others_is_not_written_to(isic, deliver):
    (deliver.out / "ISIC_2019_Training_Input").mkdir(parents=True)
    with pytest.raises(InputError, match="is there already, and not from this command"):
        deliver(small("isic2019", 3))
    assert not isic.got


def test_one_run_at_a_time(isic, deliver):
    (deliver.out / ".download").mkdir(parents=True)
    running = "another download into .* is running"
    with delivery._only_run(deliver.out), pytest.raises(InputError, match=running):
        deliver(small("isic2019", 3))
    assert deliver(small("isic2019", 3))


def test_unknown_names():
    with pytest.raises(
        InputError, match=r"'ham': expected one of ham10000, isic2018, isic2019, isi"
    ):
        download("ham", Path("unused"))


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_an_out_that_cant_be_made(site, deliver, tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"--out=.* can't be made or written to \(.*give a"
    ) as error:
        download("ham10000", tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", ["out", "out/.download"])
def test_an_out_that_cant_be_written_to(isic, deliver, tmp_path, monkeypatch, place):
    real = delivery.tempfile.TemporaryFile

    def refuse(dir):
        if dir == tmp_path / place:
            raise PermissionError(13, "Permission denied")
        return real(dir=dir)

    monkeypatch.setattr(delivery.tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"--out=.* written to \(Permission denied\)"):
        deliver(small("isic2019", 3))
    assert not isic.got


def with_rows(dataset, rows):
    """The data set with tables of as many rows."""
    publications = []
    for one in dataset.publications:
        files = [replace(file, rows=None if file.is_archive else rows) for file in one.files]
        publications.append(replace(one, files=tuple(files)))
    return replace(dataset, publications=tuple(publications))


@pytest.mark.parametrize("cut", [0, 7, 20])
def test_a_table_that_is_cut_off_by_a_server_that_says_nothing(isic, deliver, cut):
    path = "/2019/ISIC_2019_Training_GroundTruth.csv"
    table = isic.files[path] = b"image,MEL,NV\r\n" + b"ISIC_1,0.0,1.0\r\n" * 4
    isic.files["/2019/ISIC_2019_Training_Metadata.csv"] = table
    isic.heads = False
    isic.plans[path] = [{"body": table[: len(table) - cut], "length": None, "etag": ""}]
    dataset = with_rows(small("isic2019", 3), 4)
    if cut:
        expected = r"[23] whole rows, .* with 4, so it is cut off; the same command gets it again"
        with pytest.raises(TransferError, match=expected) as error:
            deliver(dataset)
        assert "\n" not in str(error.value)
        assert set(tree(deliver.out)) == {ATTRIBUTION}
    assert len(deliver(dataset)) == 7


def test_without_a_net_it_ends_soon(deliver, patience, monkeypatch, caplog):
    waits = []
    monkeypatch.setattr(server.time, "sleep", waits.append)
    patience = replace(patience, attempts=8, first_wait=1, longest_wait=60)
    expected = "refused.*3 times: is this machine offline.*by hand and pass"
    with pytest.raises(TransferError, match=expected):
        deliver(
            small("ham10000"),
            patience=patience,
            addresses=catalog.Addresses(dataverse="http://127.0.0.1:9"),
        )
    assert waits == [1, 2]
    assert "trying again in 2 s, attempt 3 of 3" in caplog.text


# --from


def put(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_archives_on_the_disk_are_used_and_left_alone(site, ham, deliver, tmp_path):
    folder = put(tmp_path / "have", ham)
    assert set(deliver(small("ham10000", sizes=ham), archives=[folder])) == unpacked()
    assert tree(folder) == ham
    assert site.got == []
    assert set(deliver(small("ham10000", sizes=ham))) == unpacked()  # nor are they needed again
    assert site.got == []


def test_archives_by_name_and_what_lacks_is_downloaded(dataverse, ham, deliver, tmp_path):
    folder = put(tmp_path / "have", ham)
    have = folder / "HAM10000_images_part_1 (1).zip"
    (folder / "HAM10000_images_part_1.zip").rename(have)
    assert set(deliver(small("ham10000"), archives=[have])) == unpacked()
    assert dataverse.gets("/api/access/datafile/2") == []
    assert dataverse.gets("/api/access/datafile/3") == [None]


def test_archives_in_the_folder_itself(site, ham, deliver):
    put(deliver.out, ham)
    assert set(deliver(small("ham10000", sizes=ham))) == unpacked() | set(ham)
    assert site.got == []


@pytest.mark.parametrize("name", ["HAM10000_metadata", "HAM10000_metadata.tab"])
def test_a_table_under_another_name(site, ham, deliver, tmp_path, name):
    ham[name] = ham.pop("HAM10000_metadata.csv").replace(b",", b"\t")
    found = deliver(small("ham10000"), archives=[put(tmp_path / "have", ham)])
    assert found[name] == ham[name]
    assert site.got == []


def test_an_archive_that_is_not_as_published(site, ham, deliver, tmp_path):
    folder = put(tmp_path / "have", {**ham, "HAM10000_images_part_2.zip": b"PK cut off"})
    with pytest.raises(InputError, match=r"has 10 bytes: .* is published with") as error:
        deliver(small("ham10000", sizes=ham), archives=[folder])
    assert "\n" not in str(error.value)


def test_a_damaged_archive_on_the_disk_is_not_deleted(isic, deliver, tmp_path):
    content = bytearray(isic.files["/2019/ISIC_2019_Training_Input.zip"])
    content[200] ^= 1
    folder = put(tmp_path / "have", {"ISIC_2019_Training_Input.zip": bytes(content)})
    with pytest.raises(InputError, match="is damaged at"):
        deliver(small("isic2019", 3), archives=[folder])
    assert (folder / "ISIC_2019_Training_Input.zip").read_bytes() == content


@pytest.mark.parametrize("make", [True, False])
def test_from_what_does_not_belong(site, deliver, tmp_path, make):
    path = tmp_path / "other.zip"
    if make:
        path.write_bytes(b"")
    expected = "is none of the files of ham10000" if make else "no file or folder"
    with pytest.raises(InputError, match=expected):
        deliver(small("ham10000"), archives=[path])


# Kaggle


@pytest.fixture
def kaggle_ham(ham, zipped):
    """Kaggle's archive: all in one, both parts twice."""
    files = {"HAM10000_metadata.csv": ham["HAM10000_metadata.csv"], "hmnist_8_8_L.csv": b"1"}
    for n in range(4):
        part = f"images_part_{n // 2 + 1}/ISIC_{n:07d}.jpg"
        files[f"HAM10000_{part}"] = files[f"ham10000_{part}"] = jpeg(n)
    return zipped(files)


@pytest.fixture
def client(tmp_path, monkeypatch):
    """A kaggle command that does what `script` says; $5 is the folder, $3 the data set."""

    def make(script):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        command = folder / "kaggle"
        command.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{script}\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder / "calls"

    return make


@pytest.mark.parametrize(
    "name", ["skin-cancer-mnist-ham10000.zip", "archive.zip", "archive (3).zip"]
)
def test_kaggles_archive_on_the_disk(site, kaggle_ham, deliver, tmp_path, name):
    found = deliver(small("ham10000"), archives=[put(tmp_path / "have", {name: kaggle_ham}) / name])
    folder = "skin-cancer-mnist-ham10000"
    assert {path for path in found if path.startswith(folder)} == {
        f"{folder}/HAM10000_metadata.csv",
        f"{folder}/hmnist_8_8_L.csv",
        *(f"{folder}/HAM10000_images_part_{n // 2 + 1}/ISIC_{n:07d}.jpg" for n in range(4)),
    }
    assert deliver(small("ham10000")) == found  # without flags, too
    assert site.got == []


def test_ham10000_by_the_client(site, kaggle_ham, client, deliver, tmp_path):
    (tmp_path / "served.zip").write_bytes(kaggle_ham)
    calls = client(f'cp {tmp_path}/served.zip "$5/skin-cancer-mnist-ham10000.zip"')
    found = deliver(small("ham10000"), via="kaggle")
    assert len(found) == 1 + 2 + 4
    assert calls.read_text().split() == [
        "datasets", "download", "kmader/skin-cancer-mnist-ham10000",
        "-p", str(deliver.out / ".download" / "kaggle"), "-q",
    ]  # fmt: skip
    assert deliver(small("ham10000")) == found
    assert len(calls.read_text().splitlines()) == 1
    with pytest.raises(InputError, match="as published by kaggle, and dataverse was asked for"):
        deliver(small("ham10000"), via="http")


def test_isic9_comes_by_the_client_without_asking(client, deliver, isic9, tmp_path, caplog):
    (tmp_path / "z").write_bytes(isic9("Train/nevus/more.jpg"))
    client(f'cp {tmp_path}/z "$5/skin-cancer9-classesisic.zip"')
    found = deliver(small("isic9", 54))
    assert len(found) == 1 + 55
    assert "skin-cancer9-classesisic/Train/nevus/more.jpg" in found
    assert "55 images; 54 are published" in caplog.text  # a number about right is no error


def test_case_and_underscores_do_not_matter(deliver, zipped, tmp_path):
    names = [f"{part}/{name}" for part in ("TRAIN", "test") for name in ISIC9_CLASSES]
    files = {f"{name.title().replace(' ', '_')}/1.jpg": b"1" for name in names}
    put(tmp_path / "have", {"archive.zip": zipped(files)})
    assert len(deliver(small("isic9", 18), archives=[tmp_path / "have"])) == 19


def test_another_archive_of_the_same_name_is_refused(deliver, isic9, kaggle_ham, tmp_path):
    other = put(tmp_path / "ham", {"archive.zip": kaggle_ham}) / "archive.zip"
    with pytest.raises(
        InputError, match=r"among its 4 images .* no Train/.* and 17 more; .*kaggle"
    ) as error:
        deliver(small("isic9", 54), archives=[other])
    assert "\n" not in str(error.value)
    assert set(tree(deliver.out)) == {ATTRIBUTION}
    right = put(tmp_path / "isic9", {"archive.zip": isic9()}) / "archive.zip"
    assert len(deliver(small("isic9", 54), archives=[right])) == 55


def test_isic9_is_not_the_ham10000_of_kaggle(site, deliver, isic9, tmp_path):
    path = put(tmp_path / "have", {"archive.zip": isic9()}) / "archive.zip"
    with pytest.raises(InputError, match="no HAM10000_images_part_1/ and 2 more"):
        deliver(small("ham10000"), archives=[path])


@pytest.mark.parametrize(("images", "message"), [(60, "54 images; about 60 are"), (54, "no Test/")])
def test_a_part_of_the_archive_is_refused(deliver, isic9, tmp_path, images, message):
    without = ["Test/nevus"] if images == 54 else []
    path = put(tmp_path / "have", {"archive.zip": isic9(without=without)}) / "archive.zip"
    for _ in range(2):  # nothing is taken for done
        with pytest.raises(InputError, match=message):
            deliver(small("isic9", images), archives=[path])


def test_the_published_name_goes_before_that_of_any_archive(deliver, isic9, kaggle_ham, tmp_path):
    put(tmp_path / "have", {"archive.zip": kaggle_ham, "skin-cancer9-classesisic.zip": isic9()})
    assert len(deliver(small("isic9", 54), archives=[tmp_path / "have"])) == 55


def test_a_complete_folder_takes_no_other_archive(deliver, isic9, tmp_path):
    put(tmp_path / "have", {"archive.zip": isic9()})
    found = deliver(small("isic9", 54), archives=[tmp_path / "have"])
    put(tmp_path / "other", {"archive.zip": isic9(top="another")})
    for lost in (False, True):
        with pytest.raises(InputError, match=r"another skin.*than --from=.*other/archive.zip"):
            deliver(small("isic9", 54), archives=[tmp_path / "other"])
        assert deliver(small("isic9", 54), archives=[tmp_path / "have"]) == found
        if not lost:
            (deliver.out / "skin-cancer9-classesisic" / "Train" / "nevus" / "0.jpg").unlink()


def test_an_archive_that_the_client_brought_gives_way_to_a_given_one(
    client, deliver, isic9, kaggle_ham, tmp_path
):
    (tmp_path / "z").write_bytes(kaggle_ham)
    calls = client(f'cp {tmp_path}/z "$5/skin-cancer9-classesisic.zip"')
    for _ in range(2):
        with pytest.raises(InputError, match=r"is not skin-cancer9-classesisic\.zip"):
            deliver(small("isic9", 54))
    assert len(calls.read_text().splitlines()) == 1
    path = put(tmp_path / "have", {"archive.zip": isic9()}) / "archive.zip"
    assert len(deliver(small("isic9", 54), archives=[path])) == 55


@pytest.mark.parametrize(
    ("name", "folder", "base"),
    [
        ("ham10000", "HAM10000_images_part_1", ""),
        ("ham10000", "ham/ham10000_images_part_2", "/ham"),
        ("isic2019", "ISIC_2019_Training_Input", ""),
        ("isic9", "Train/nevus", ""),
        ("isic9", "Skin cancer ISIC/Test/vascular_lesion", "/Skin cancer ISIC"),
    ],
)
def test_an_unpacked_folder_is_for_prepare(site, deliver, tmp_path, name, folder, base):
    have = put(tmp_path / "have", {"HAM10000_metadata.csv": b"x"})
    (have / folder).mkdir(parents=True)
    expected = f"unpacked already .*prepare --dataset={name} --raw_dir={have}{base}` reads it"
    with pytest.raises(InputError, match=expected):
        deliver(small(name), archives=[have])
    assert site.got == []


def test_archives_beside_what_was_unpacked_from_them_are_used(site, ham, deliver, tmp_path):
    have = put(tmp_path / "have", ham)
    (have / "HAM10000_images_part_1").mkdir()
    assert set(deliver(small("ham10000"), archives=[have])) == unpacked()


def test_a_table_on_the_disk_that_is_cut_off(site, ham, deliver, tmp_path):
    table = ham["HAM10000_metadata.csv"]
    have = put(tmp_path / "have", {**ham, "HAM10000_metadata.csv": table[:-20]})
    with pytest.raises(InputError, match=r"3 whole rows, .* is published with 4"):
        deliver(with_rows(small("ham10000"), 4), archives=[have])


def test_a_broken_archive_on_the_disk_is_told_before_anything_is_downloaded(
    site, dataverse, ham, deliver, tmp_path
):
    put(tmp_path / "have", {"HAM10000_images_part_1.zip": b"cut off"})
    sizes = {name: content for name, content in ham.items() if name.endswith(".zip")}
    with pytest.raises(InputError, match=r"HAM10000_images_part_1\.zip"):
        deliver(small("ham10000", sizes=sizes), archives=[tmp_path / "have"])
    assert not list(deliver.out.rglob("*.part"))
    assert not (deliver.out / "HAM10000_metadata.csv").exists()
    assert site.got == []


def test_without_a_client(site, deliver, monkeypatch):
    monkeypatch.setattr(kaggle.shutil, "which", lambda *_, **__: None)
    with pytest.raises(InputError, match=r"pip install kaggle.*kaggle.json.*--from=FILE") as error:
        deliver(small("isic9"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo trace; echo 401 - Unauthorized >&2; exit 1",
            "status 1, saying '401 - Unauth.*token",
        ),
        ("exit 0", "left nothing in .*expected skin-cancer9-classesisic.zip"),
        ("echo 403 Forbidden; : > $5/page.html", "left page.html in .*403 Forbidden"),
    ],
)
def test_a_client_that_fails(client, deliver, script, message):
    client(script)
    with pytest.raises(InputError, match=message) as error:
        deliver(small("isic9"))
    assert "\n" not in str(error.value)


def test_isic9_over_http(deliver):
    with pytest.raises(
        InputError, match=r"isic9 can't be had with --via=http.*kaggle.com/datasets/"
    ):
        deliver(small("isic9"), via="http")


def test_an_unknown_way(deliver):
    with pytest.raises(InputError, match="--via is 'ftp': expected one of auto, http, kaggle"):
        deliver(small("isic9"), via="ftp")


# Being killed

CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from skinjax.download import Addresses, Patience, catalog, delivery
dataset = catalog.dataset("isic2019")
publication = dataset.publications[0]
counts = (replace(publication.counts[0], images=300),)
files = tuple(replace(file, rows=None) for file in publication.files)
dataset = replace(dataset, publications=(replace(publication, counts=counts, files=files),))
patience = Patience(first_wait=0.001)
addresses = Addresses(isic=sys.argv[2])
delivery.deliver(dataset, Path(sys.argv[1]), addresses=addresses, patience=patience)
"""


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (stock, "take"), (orders, "_keep"), (orders.os, "replace"), (archive, "place"),
        (state.State, "save_members"), (stock, "delete_archives"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("after", [True, False])
def test_stopped_at_each_step_it_goes_on(isic, deliver, monkeypatch, owner, step, after):
    path = "/2019/ISIC_2019_Training_Input.zip"
    real = getattr(owner, step)

    def stop(*arguments):
        if step == "replace" and Path(arguments[1]).name != Path(path).name:
            return real(*arguments)
        if after:
            real(*arguments)
        raise KeyboardInterrupt

    table = deliver.out / "ISIC_2019_Training_Metadata.csv"  # one that is there already
    put(deliver.out, {table.name: isic.files[f"/2019/{table.name}"]})
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, stop)
        with pytest.raises(KeyboardInterrupt):
            deliver(small("isic2019", 3))
    assert len(deliver(small("isic2019", 3))) == 7
    assert isic.gets(path) == [None]
    assert json.loads((deliver.out / ".download" / "state.json").read_text())["complete"]


@pytest.mark.parametrize(
    ("moment", "delay"),
    [
        (".zip.part", 0),
        (".zip.part", 0.01),
        *[(".unpacking", one) for one in (0, 0.01, 0.02, 0.04)],
    ],
)
def test_killed_at_any_moment_it_goes_on(site, zipped, tmp_path, patience, moment, delay):
    name = "ISIC_2019_Training_Input"
    for table in ("GroundTruth", "Metadata"):
        site.files[f"/2019/ISIC_2019_Training_{table}.csv"] = b"image\n"
    images = {f"{name}/{n}.jpg": os.urandom(20_000) for n in range(300)}
    site.files[f"/2019/{name}.zip"] = zipped(images)
    out = tmp_path / "out"
    command = [sys.executable, "-c", CHILD, str(out), site.url]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while child.poll() is None and not list(out.glob(f".download/*Input{moment}")):
        time.sleep(0.001)
    time.sleep(delay)
    child.kill()
    child.wait()
    assert not (out / name).exists() or len(list((out / name).iterdir())) == 300
    delivery.deliver(small("isic2019", 300), out, addresses=site.addresses, patience=patience)
    assert {f"{name}/{p.name}": p.read_bytes() for p in (out / name).iterdir()} == images
    left = {path.name for path in (out / ".download").iterdir()}
    assert left == {"lock", "state.json", f"{name}.zip.files.json"}
