"""A server of published files on this machine that can be told to misbehave."""

import contextlib
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from skinjax.download import Addresses, Patience

PATIENCE = Patience(
    attempts=4, enough=1000, first_wait=0.001, longest_wait=0.01, longest_asked=5, read_timeout=20
)


class Site:
    """Files by path, and how the next GETs of each are to be answered; then it behaves.

    A plan is a list of dicts with any of: `status` and `headers`; `cut`, bytes after which the
    connection is closed; `hang`, bytes after which nothing more comes; `length`, added to what
    Content-Length says, or None for none; `body`, other bytes; `etag`; `date`, of
    Last-Modified; `ranges` or `if_range` False to ignore Range or If-Range.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.addresses = Addresses(dataverse=self.url, isic=self.url)
        self.files: dict[str, bytes] = {}
        self.plans: dict[str, list[dict]] = {}
        self.got: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.heads = True
        self.closing = threading.Event()

    def gets(self, path: str) -> list[str | None]:
        return [wanted for method, got, wanted in self.got if (method, got) == ("GET", path)]


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):  # of a client that was killed
            self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        site = self.site
        site.got.append((self.command, self.path, self.headers.get("Range")))
        plans = site.plans.get(self.path, [])
        plan = plans.pop(0) if plans and with_body else {}
        body = plan.get("body", site.files.get(self.path))
        status = plan.get("status", 200 if body is not None else 404)
        if not with_body and not site.heads:
            status = 405
        if status != 200 or body is None:
            self.send_response(status)
            for name, value in plan.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        etag = plan.get("etag", f'"{hashlib.md5(site.files[self.path]).hexdigest()}"')
        start, whole = 0, len(body)
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, plan.get("date", etag)) or not plan.get(
            "if_range", True
        )
        if wanted and same and plan.get("ranges", True):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= whole:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{whole}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        body = body[start:]
        if etag:
            self.send_header("ETag", etag)
        if "date" in plan:
            self.send_header("Last-Modified", plan["date"])
        if plan.get("length", 0) is not None:
            self.send_header("Content-Length", str(len(body) + plan.get("length", 0)))
        self.end_headers()
        if with_body:
            self.wfile.write(body[: plan.get("cut", plan.get("hang", len(body)))])
            self.wfile.flush()
            if "hang" in plan:
                site.closing.wait(60)


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    site = Site(server.server_address[1])
    server.RequestHandlerClass = type("Handler", (_Handler,), {"site": site})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def patience() -> Patience:
    return PATIENCE


@pytest.fixture
def zipped():
    """Returns the bytes of a zip archive of `files`, path to bytes."""

    def make(files: dict[str, bytes]) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            for name, content in files.items():
                file.writestr(name, content)
        return packed.getvalue()

    return make


@pytest.fixture
def listing():
    """Returns what Dataverse answers for files of these names and bytes; .csv are converted."""

    def make(files: dict[str, bytes]) -> bytes:
        rows = []
        for number, (name, content) in enumerate(files.items(), 1):
            data = {"id": number, "filename": name, "filesize": len(content)}
            data["md5"] = hashlib.md5(content).hexdigest()
            data["checksum"] = {"type": "MD5", "value": data["md5"]}
            if name.endswith(".csv"):
                data["filename"] = name.replace(".csv", ".tab")
                data["filesize"] += 1000  # of the converted table; the MD5 is the original's
                data["originalFileFormat"] = "text/csv"
                data["originalFileName"] = name
            rows.append({"label": data["filename"], "restricted": False, "dataFile": data})
        return json.dumps({"status": "OK", "data": rows}).encode()

    return make
