"""Asking a server: with a limit to waiting, again after faults that may pass, not for ever."""

import email.utils
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import requests
import urllib3
from absl import logging

from skinjax.errors import SkinjaxError

_T = TypeVar("_T")
_PASSING = frozenset({408, 429, 500, 502, 503, 504})  # HTTP answers that may be others soon
CONNECTION_ERRORS = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
)


class TransferError(SkinjaxError):
    """A file can't be had; the message is one line that says what to do."""


class UnreachableError(TransferError):
    """Nothing ever answered: a name that can't be resolved, or a connection that is refused."""


class FaultError(Exception):
    """This attempt failed and another may not; `wait` is in seconds where the server names it."""

    def __init__(
        self, reason: str, wait: float | None = None, *, unreachable: bool = False
    ) -> None:
        super().__init__(reason)
        self.wait = wait
        self.unreachable = unreachable


class Session(requests.Session):
    """Remembers whether any server has answered: if so, the net is there and may come back."""

    answered = False


# Without a net, minutes of waiting bring nothing.
_UNREACHABLE_ATTEMPTS = 3
_UNREACHABLE_SECONDS = 10.0


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and how often to try."""

    attempts: int = 8  # in a row that bring less than `enough`
    enough: int = 1 << 20  # bytes
    first_wait: float = 1.0  # doubled each time
    longest_wait: float = 60.0
    longest_asked: float = 600.0  # Retry-After beyond this ends the run
    connect_timeout: float = 20.0
    read_timeout: float = 60.0  # without a byte


def head(session: Session, url: str, patience: Patience, help: str) -> int | None:
    """Size of a file on a server, in bytes; None if the server doesn't say."""

    def attempt() -> int | None:
        with request(session, "HEAD", url, {}, patience) as response:
            if response.status_code in (403, 405, 501):  # no HEAD here: GET will tell
                return None
            check_status(response, url, help)
            return content_length(response)

    return persist(url, attempt, patience, help, lambda: 0)


def get_json(session: Session, url: str, patience: Patience, help: str) -> object:
    """What a server answers, read as JSON."""

    def attempt() -> object:
        with request(session, "GET", url, {}, patience) as response:
            check_status(response, url, help)
            try:
                return json.loads(response.raw.read(1 << 24, decode_content=True))
            except (ValueError, *CONNECTION_ERRORS) as error:
                raise FaultError(f"no JSON ({innermost(error)})") from None

    return persist(url, attempt, patience, help, lambda: 0)


def persist(
    url: str, attempt: Callable[[], _T], patience: Patience, help: str, held: Callable[[], int]
) -> _T:
    """Calls `attempt` until it returns, as long as patience lasts. `held` counts bytes so far.

    Only what was never reached before is progress: a server that always stops at the same byte and
    lets nobody resume would be asked for ever.
    """
    failures, most, began = 0, held(), time.monotonic()
    while True:
        try:
            return attempt()
        except FaultError as fault:
            failures = 1 if held() - most >= patience.enough else failures + 1
            most = max(most, held())
            asked = fault.wait
            backoff = min(patience.longest_wait, patience.first_wait * 2 ** (failures - 1))
            attempts = patience.attempts
            if fault.unreachable:
                attempts = min(attempts, _UNREACHABLE_ATTEMPTS)
                over = time.monotonic() - began + backoff > _UNREACHABLE_SECONDS
                if failures >= attempts or over:
                    raise UnreachableError(
                        f"{url}: {fault}, {failures} times: is this machine offline? The same"
                        f" command goes on where it stopped, or {help}"
                    ) from None
            if failures >= attempts or (asked or 0) > patience.longest_asked:
                wish = f", and asks to wait {asked:.0f} s" if asked else ""
                raise TransferError(
                    f"{url}: {fault}, after {failures} attempts in a row{wish}; the same command"
                    f" goes on where it stopped, or {help}"
                ) from None
            wait = backoff if asked is None else asked
            logging.warning(
                "%s: %s; trying again in %.0f s, attempt %d of %d",
                url, fault, wait, failures + 1, attempts,
            )  # fmt: skip
            time.sleep(wait)


def request(
    session: Session, method: str, url: str, headers: dict[str, str], patience: Patience
) -> requests.Response:
    """One request, whose body is not read yet; raises FaultError or TransferError."""
    try:
        response = session.request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **headers},
            stream=True,
            allow_redirects=True,
            timeout=(patience.connect_timeout, patience.read_timeout),
        )
    except requests.exceptions.SSLError as error:  # waiting does not mend a certificate
        raise TransferError(f"{url}: no safe connection ({innermost(error)})") from None
    except CONNECTION_ERRORS as error:
        unreachable = not session.answered and _is_unreachable(error)
        raise FaultError(f"no answer ({innermost(error)})", unreachable=unreachable) from None
    except requests.RequestException as error:  # a bad address, or redirects in a circle
        raise TransferError(f"{url}: {innermost(error)}") from None
    session.answered = True
    return response


def _is_unreachable(error: BaseException | None) -> bool:
    """True if no connection was made for another reason than a time limit."""
    if error is None or isinstance(error, urllib3.exceptions.NewConnectionError):
        return error is not None
    return _is_unreachable(error.__cause__) or _is_unreachable(error.__context__)


def check_status(response: requests.Response, url: str, help: str) -> None:
    """Returns on 200; raises FaultError if another try may get it, else TransferError."""
    if response.status_code == 200:
        return
    answer = f"the server answered {response.status_code} {response.reason}".strip()
    if response.status_code in _PASSING:
        raise FaultError(answer, _retry_after(response))
    raise TransferError(f"{url}: {answer}; {help}")


def _retry_after(response: requests.Response) -> float | None:
    """Seconds, given as such or as a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def content_length(response: requests.Response) -> int | None:
    """Content-Length in bytes, None if the server doesn't give it."""
    text = response.headers.get("Content-Length", "").strip()
    return int(text) if text.isdecimal() else None


def innermost(error: BaseException) -> str:
    """One line; the innermost message is the one that says something."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
