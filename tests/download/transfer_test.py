import email.utils
import random
import socket
import time
from dataclasses import replace

import pytest

from skinjax.download import server, transfer
from skinjax.download.progress import Progress
from skinjax.download.server import TransferError
from skinjax.download.transfer import Remote

BODY = random.Random(0).randbytes(50_000)


@pytest.fixture
def fetch(site, patience, tmp_path):
    """Fetches /a.zip with what is known of it; returns the part's bytes and the progress."""
    site.files["/a.zip"] = BODY
    part = tmp_path / "a.zip.part"

    def run(size=None, md5="", etag_is_md5=True, **changes):
        remote = Remote("a.zip", f"{site.url}/a.zip", size, md5, etag_is_md5, "get it by hand")
        progress = Progress("downloading", len(BODY))
        with server.Session() as session:
            found = transfer.fetch(session, remote, part, replace(patience, **changes), progress)
        assert progress.done == found.size == part.stat().st_size
        return part.read_bytes()

    run.part = part
    return run


def test_a_file_comes_whole(site, fetch):
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None]


def test_a_connection_cut_several_times_is_gone_on_with(site, fetch):
    site.plans["/a.zip"] = [{"cut": 10_000}] * 4
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None, *(f"bytes={n}0000-" for n in range(1, 5))]


def test_a_later_call_goes_on_where_one_was_stopped(site, fetch):
    site.plans["/a.zip"] = [{"cut": 10_000}, *[{"status": 503}] * 9]
    with pytest.raises(TransferError, match=r"503.*goes on where it stopped, or get it by hand"):
        fetch()
    assert fetch.part.read_bytes() == BODY[:10_000]
    site.plans.clear()
    assert fetch() == BODY
    assert site.gets("/a.zip")[-1] == "bytes=10000-"


def test_a_killed_call_leaves_a_part_that_is_gone_on_with(site, fetch, monkeypatch):
    site.plans["/a.zip"] = [{"cut": 30_000}]

    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(server.time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        fetch()
    monkeypatch.undo()
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None, "bytes=30000-"]


def test_a_whole_part_is_not_fetched_again(site, fetch, monkeypatch):
    monkeypatch.setattr(transfer, "digest", lambda _: 1 / 0)  # dies when it is whole
    with pytest.raises(ZeroDivisionError):
        fetch()
    monkeypatch.undo()
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None]


def test_a_server_without_ranges_starts_the_file_anew(site, fetch):
    site.plans["/a.zip"] = [{"cut": 20_000}, {"ranges": False}]
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None, "bytes=20000-"]


def test_a_server_that_always_cuts_and_knows_no_ranges_is_not_asked_for_ever(site, fetch):
    site.plans["/a.zip"] = [{"cut": 20_000, "ranges": False}] * 99
    with pytest.raises(TransferError, match="cut off after 20000 bytes"):
        fetch()
    assert len(site.gets("/a.zip")) == 4  # the first brought something


def test_a_file_changed_in_between_is_started_anew(site, fetch):
    site.plans["/a.zip"] = [{"cut": 20_000, "etag": '"old"'}]
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None, "bytes=20000-"]


def test_the_rest_of_another_file_is_not_appended(site, fetch):
    site.plans["/a.zip"] = [
        {"cut": 20_000, "body": bytes(len(BODY)), "etag": '"old"'},
        {"if_range": False},  # a server that overlooks it, as some do
    ]
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None, "bytes=20000-", None]


def test_without_etag_or_date_nothing_is_resumed(site, fetch):
    site.plans["/a.zip"] = [{"cut": 20_000, "etag": ""}]
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None, None]


def test_too_long_a_content_length_is_an_error(site, fetch):
    site.plans["/a.zip"] = [{"length": 100}] * 99
    with pytest.raises(TransferError, match=r"cut off after 50000 bytes|after 50000 bytes"):
        fetch()


def test_too_long_a_content_length_once_is_mended(site, fetch):
    site.plans["/a.zip"] = [{"length": 100}]
    assert fetch() == BODY


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (
            {"size": 50_000, "etag_is_md5": False},
            "announces 49900 bytes; 50000 bytes are published",
        ),
        ({}, "got bytes with MD5 .*, expected .*, 2 times; get it by hand"),
    ],
)
def test_too_short_a_content_length_is_found_by_what_is_published(site, fetch, known, message):
    site.plans["/a.zip"] = [{"length": -100}] * 99
    with pytest.raises(TransferError, match=message):
        fetch(**known)
    site.plans["/a.zip"] = [{"length": -100}]
    assert fetch(**known) == BODY


@pytest.mark.parametrize("etag_is_md5", [True, False])
def test_wrong_bytes_are_found_and_fetched_anew(site, fetch, etag_is_md5):
    wrong = BODY[:100] + b"\0\0\0" + BODY[103:]
    known = {} if etag_is_md5 else {"md5": "0b" * 16, "etag_is_md5": False}
    site.plans["/a.zip"] = [{"body": wrong}] * 2
    with pytest.raises(TransferError, match=r"got bytes with MD5 .*, 2 times; get it by hand"):
        fetch(**known)
    assert not fetch.part.exists()
    if etag_is_md5:
        site.plans["/a.zip"] = [{"body": wrong}]
        assert fetch() == BODY


def test_an_etag_of_an_upload_in_parts_is_no_md5(site, fetch):
    site.plans["/a.zip"] = [{"etag": f'"{"0" * 32}-7"'}]
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None]


def test_an_end_that_the_server_does_not_announce(site, fetch):
    """No Content-Length: the connection's end is the file's, and only what is published tells."""
    site.plans["/a.zip"] = [{"length": None, "cut": 20_000, "etag": ""}]
    assert fetch(size=len(BODY)) == BODY
    assert site.gets("/a.zip") == [None, None]


def test_a_date_will_do_for_resuming(site, fetch):
    date = "Mon, 01 Oct 2018 00:00:00 GMT"
    site.plans["/a.zip"] = [{"cut": 20_000, "etag": 'W/"weak"', "date": date}]
    site.plans["/a.zip"].append({"etag": 'W/"weak"', "date": date})
    assert fetch() == BODY
    assert site.gets("/a.zip") == [None, "bytes=20000-"]


def test_a_busy_server_is_tried_again(site, fetch):
    site.plans["/a.zip"] = [{"status": 503}, {"status": 500}, {"status": 502}]
    assert fetch() == BODY


def test_waits_double(site, fetch, monkeypatch):
    waits = []
    monkeypatch.setattr(server.time, "sleep", waits.append)
    site.plans["/a.zip"] = [{"status": 503}] * 99
    with pytest.raises(TransferError, match="503 Service Unavailable, after 6 attempts in a row"):
        fetch(attempts=6, first_wait=1, longest_wait=5)
    assert waits == [1, 2, 4, 5, 5]
    assert len(site.gets("/a.zip")) == 6


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed(site, fetch, monkeypatch, form):
    waits = []
    monkeypatch.setattr(server.time, "sleep", waits.append)
    value = "3" if form == "seconds" else email.utils.formatdate(time.time() + 3, usegmt=True)
    site.plans["/a.zip"] = [{"status": 429, "headers": {"Retry-After": value}}]
    assert fetch() == BODY
    assert waits == [pytest.approx(3, abs=1.1)]


def test_a_wait_of_hours_is_not_sat_out(site, fetch):
    site.plans["/a.zip"] = [{"status": 429, "headers": {"Retry-After": "7200"}}]
    with pytest.raises(TransferError, match=r"429 Too Many Requests.*asks to wait 7200 s"):
        fetch()


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_ends_it_at_once(site, fetch, status):
    site.plans["/a.zip"] = [{"status": status}] * 9
    with pytest.raises(TransferError, match=f"answered {status} .*; get it by hand") as error:
        fetch()
    assert len(site.gets("/a.zip")) == 1
    assert "\n" not in str(error.value)


def test_silence_is_no_waiting_for_ever(site, fetch):
    site.plans["/a.zip"] = [{"hang": 20_000}]
    began = time.monotonic()
    assert fetch(read_timeout=0.3) == BODY
    assert 0.2 < time.monotonic() - began < 20


NOBODY = Remote("b", "http://127.0.0.1:9/b", None, "", False, "get it by hand")


def unresolved(*_, **__):
    raise socket.gaierror(-2, "Name or service not known")


@pytest.mark.parametrize("resolved", [True, False])
@pytest.mark.parametrize(("first_wait", "waits"), [(1, [1, 2]), (6, [6]), (11, [])])
def test_nobody_there(tmp_path, patience, monkeypatch, resolved, first_wait, waits):
    """At most three attempts, and not beyond ten seconds."""
    clock = [0.0]
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    if not resolved:
        monkeypatch.setattr(socket, "getaddrinfo", unresolved)
    monkeypatch.setattr(server.time, "sleep", sleep)
    monkeypatch.setattr(server.time, "monotonic", lambda: clock[0])
    patience = replace(patience, attempts=8, first_wait=first_wait, longest_wait=60)
    expected = "no answer .*(refused|resolve|not known).* times: is this machine offline.*by hand"
    with server.Session() as session, pytest.raises(server.UnreachableError, match=expected):
        transfer.fetch(session, NOBODY, tmp_path / "b", patience, Progress("", 0))
    assert slept == waits


def test_a_net_that_was_there_may_come_back(site, tmp_path, patience, monkeypatch, caplog):
    site.files["/a.zip"] = BODY
    waits = []
    monkeypatch.setattr(server.time, "sleep", waits.append)
    patience = replace(patience, attempts=8)
    with server.Session() as session:
        server.head(session, f"{site.url}/a.zip", patience, "")
        with pytest.raises(TransferError, match=r"no answer .*refused.*after 8 attempts"):
            transfer.fetch(session, NOBODY, tmp_path / "b", patience, Progress("", 0))
    assert len(waits) == 7
    assert "attempt 2 of 8" in caplog.text


def test_a_full_disk_goes_through(fetch, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer, "_append", full)
    with pytest.raises(OSError, match="No space left") as error:
        fetch()
    assert error.value.errno == 28


def test_head_tells_the_size_or_nothing(site, patience):
    site.files["/a.zip"] = BODY
    with server.Session() as session:
        assert server.head(session, f"{site.url}/a.zip", patience, "") == len(BODY)
        site.heads = False
        assert server.head(session, f"{site.url}/a.zip", patience, "") is None
