"""One request for the bytes of one file, from some offset on.

The hub answers with a redirect to a storage host whose address is good for a while, so each try
begins at the hub again. Its redirect names the digest of what will come; the token goes to the hub
only. What comes must be what was asked for: these bytes of this file, or the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from . import waiting
from .api import Hub, RemoteFile, Repository, utils
from .failures import from_hub, http_error

_MOST_REDIRECTS = 10
_CONNECT_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443}


class Passing(Exception):
    """The try failed, the next may not; `seconds` to wait if the server said so."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


class Changed(Exception):
    """What is served is not, or no longer, the file that was begun: start over."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Bytes as they come; the first is at `start`, which is 0 if the server ignored the range."""

    start: int
    chunks: Iterator[bytes]
    etag: str


@contextmanager
def open_stream(
    hub: Hub, repository: Repository, file: RemoteFile, start: int, etag: str = ""
) -> Iterator[Stream]:
    """Ask for the file from byte `start` on; `etag` is that of the storage host's last answer.

    Raises Passing, Changed, or for good an error of ours.
    """
    try:
        with _answer(hub, repository, file, start, etag) as response:
            _hold_to(response, file, start)
            if response.status_code >= 400:
                utils().hf_raise_for_status(response)
            place = start if response.status_code == 206 else 0
            yield Stream(place, response.iter_bytes(), response.headers.get("ETag", ""))
    except http_error() as error:
        if getattr(error, "response", None) is not None:
            raise from_hub(error, hub, repository.name, repository.revision) from error
        raise Passing(_reason(error)) from error


@contextmanager
def _answer(
    hub: Hub, repository: Repository, file: RemoteFile, start: int, etag: str
) -> Iterator[Any]:
    """The answer at the end of the redirects, not yet read."""
    own = hub.headers() | {"Accept-Encoding": "identity"}
    own |= {"Range": f"bytes={start}-"} if start else {}
    foreign = {key: value for key, value in own.items() if key.lower() != "authorization"}
    url = hub.url(repository.name, repository.commit, file.name)
    for _ in range(_MOST_REDIRECTS):
        at_hub = _origin(url) == _origin(hub.endpoint)
        pin = {"If-Range": etag} if start and _is_strong(etag) else {}
        with (
            utils()
            .get_session()
            .stream(
                "GET",
                url,
                headers=(own if at_hub else foreign) | pin,
                follow_redirects=False,
                timeout=_timeout(),
            ) as response
        ):
            if at_hub:
                _check_digest(response.headers, file)
            elif response.status_code in (401, 403, 404):
                raise Passing(f"the storage host says {response.status_code}")
            if not response.has_redirect_location:
                yield response
                return
            url = _next(url, response.headers["Location"])
    raise Passing("redirects without an end")


def _timeout() -> Any:
    """For connecting, and between two pieces: a stall longer than that is a failed try."""
    from huggingface_hub import constants

    kind = type(utils().get_session().timeout)
    return kind(constants.HF_HUB_DOWNLOAD_TIMEOUT, connect=_CONNECT_SECONDS)


def _next(url: str, location: str) -> str:
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https") or (scheme == "http" and url.startswith("https:")):
        raise Passing(f"a redirect to {target[:80]!r}")
    return target


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


def _is_strong(etag: str) -> bool:
    return etag.startswith('"')


def _check_digest(headers: Mapping[str, str], file: RemoteFile) -> None:
    """The hub names its blobs by the digest that we hold them to."""
    linked = headers.get("X-Linked-Etag", "")
    if linked and linked.removeprefix("W/").strip('"') != file.digest:
        raise Changed(f"the hub announces {linked} in place of {file.digest}")


def _hold_to(response: Any, file: RemoteFile, start: int) -> None:
    """Refuse what is neither the rest of the file nor the whole of it."""
    status, headers = response.status_code, response.headers
    if status == 416:
        raise Changed("the server holds no such range")
    if later := waiting.delay(status, headers):
        raise Passing(f"HTTP {status}", later.seconds)
    if status == 206 and _content_range(headers) != (start, file.size):
        raise Changed(f"another range came: {headers.get('Content-Range')}")
    if status == 200 and _length(headers) not in (None, file.size):
        raise Changed(f"{headers.get('Content-Length')} bytes in place of {file.size}")


def _content_range(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """Where the bytes begin, and how many the whole file has: `bytes 100-199/200`."""
    unit, _, rest = headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not first.isdigit() or not total.isdigit():
        return None
    if headers.get("Content-Encoding", "identity") != "identity":
        return None
    return int(first), int(total)


def _length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    plain = headers.get("Content-Encoding", "identity") == "identity"
    return int(text) if text.isdigit() and plain else None


def _reason(error: Exception) -> str:
    name = type(error).__name__
    return "no data for a while" if name == "ReadTimeout" else str(error) or name
