"""A hub on loopback: enough of the Hugging Face Hub's protocol for the real client, and its moods.

Two servers, as there: the hub (127.0.0.1) answers the API and redirects large files to a storage
host (localhost, another port), which serves ranges. What it should do wrong is put into `faults`,
one for each request of the storage host; what it was asked is in `log`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 4096
"""Files of at least so many bytes are large ones (LFS), served by the storage host."""
BLOCK = 1 << 16
CHECKPOINT = "org/tiny"
"""The repository of the fixture `checkpoint`."""


@dataclass
class Request:
    """What one request asked, and how many bytes of a body it got."""

    host: str
    method: str
    path: str
    start: int
    if_range: str
    token: str
    status: int = 0
    sent: int = 0


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request for a large file."""

    cut_after: int | None = None  # close the connection after so many bytes of the body
    stall_after: int | None = None  # send so many, then nothing for `seconds`
    seconds: float = 0.0
    status: int = 0  # answer with this status and these headers, without a body
    headers: Mapping[str, str] = field(default_factory=dict)
    ignore_range: bool = False  # 200 and the whole file
    wrong_bytes: bool = False  # right in length, wrong in content
    wrong_etag: bool = False  # the hub's redirect names another digest
    wrong_length: bool = False  # one byte too many is announced and sent
    new_etag: bool = False  # the storage host has another ETag now
    at_hub: bool = False  # the hub itself, not the storage host


@dataclass
class Repo:
    """A repository: file contents by revision; `gated` wants an accepted token."""

    files: dict[str, bytes]
    revisions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    licence: str = "apache-2.0"

    def at(self, revision: str) -> dict[str, bytes] | None:
        known = {"main": self.files} | self.revisions
        by_commit = {commit_of(files): files for files in known.values()}
        return known.get(revision) or by_commit.get(revision)


def commit_of(files: Mapping[str, bytes]) -> str:
    hasher = hashlib.sha1(usedforsecurity=False)
    for name in sorted(files):
        hasher.update(name.encode() + hashlib.sha256(files[name]).digest())
    return hasher.hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class LoopbackHub:
    """Both servers; use as a context manager."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.accepted_token = "hf_accepted"
        self.on_sent: Callable[[int], None] = lambda sent: None
        self.seconds_per_block = 0.0
        self._lock = threading.Lock()
        self._hub = _Server(("127.0.0.1", 0), _HubHandler, self)
        self._storage = _Server(("127.0.0.1", 0), _StorageHandler, self)
        self.url = f"http://127.0.0.1:{self._hub.server_address[1]}"
        self.storage_url = f"http://localhost:{self._storage.server_address[1]}"

    def __enter__(self) -> LoopbackHub:
        for server in (self._hub, self._storage):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._hub, self._storage):
            server.shutdown()
            server.server_close()

    def next_fault(self, *, at_hub: bool) -> Fault:
        with self._lock:
            if self.faults and self.faults[0].at_hub == at_hub:
                return self.faults.pop(0)
            return Fault(at_hub=at_hub)

    def peek_fault(self) -> Fault:
        return self.faults[0] if self.faults else Fault()

    def etag(self, content: bytes) -> str:
        """The storage host's own, which is not the digest."""
        return f'"storage-{sha256(content)[:16]}"'

    def bodies(self) -> list[Request]:
        """The requests for the bytes of large files."""
        return [request for request in self.log if request.host == "storage"]

    def sent(self) -> int:
        return sum(request.sent for request in self.bodies())

    def content(self, digest: str) -> bytes | None:
        for repo in self.repos.values():
            for files in (repo.files, *repo.revisions.values()):
                for content in files.values():
                    if len(content) >= LARGE and sha256(content) == digest:
                        return content
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type, hub: LoopbackHub) -> None:
        super().__init__(address, handler)
        self.hub = hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    host = ""
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub

    def begin(self) -> Request:
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        start = int(span[1]) if span else 0
        request = Request(
            self.host, self.command, self.path, start, self.headers.get("If-Range", ""), token
        )
        self.hub.log.append(request)
        return request

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] = {}) -> None:
        self.hub.log[-1].status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _HubHandler(_Handler):
    host = "hub"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.begin()
        path = unquote(urlsplit(self.path).path)
        if self.hub.peek_fault().at_hub and "/resolve/" not in path:
            fault = self.hub.next_fault(at_hub=True)
            return self.answer(fault.status, b"", fault.headers)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/.*)?", path):
            return self.api(match[1], match[2] or "")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(match[1], match[2], match[3])
        return self.answer(404)

    def api(self, name: str, rest: str) -> None:
        repo = self.hub.repos.get(name)
        token = self.hub.log[-1].token
        if repo is None or (repo.private and token != self.hub.accepted_token):
            return self.answer(404 if token else 401, b"{}", {"X-Error-Code": "RepoNotFound"})
        if rest == "/auth-check":
            return self.refuse_gated() if self.is_refused(repo) else self.json({})
        if match := re.fullmatch(r"/tree/([^/]+)(/.*)?", rest):
            files = repo.at(match[1])
            return self.no_revision() if files is None else self.json(_tree(files))
        match = re.fullmatch(r"/revision/(.+)", rest)
        revision = match[1] if match else "main"
        files = repo.at(revision)
        return self.no_revision() if files is None else self.json(_info(name, repo, files))

    def resolve(self, name: str, revision: str, file: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if self.is_refused(repo):
            return self.refuse_gated()
        files = repo.at(revision)
        if files is None:
            return self.no_revision()
        if file not in files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        return self.serve(files[file], commit_of(files))

    def serve(self, content: bytes, commit: str) -> None:
        common = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if len(content) < LARGE:
            return self.answer(200, content, common | {"ETag": f'"{git_sha1(content)}"'})
        digest = sha256(content)
        shown = "0" * 64 if self.hub.peek_fault().wrong_etag else digest
        if self.hub.peek_fault().wrong_etag:
            self.hub.faults.pop(0)
        linked = {"X-Linked-Etag": f'"{shown}"', "X-Linked-Size": str(len(content))}
        location = {"Location": f"{self.hub.storage_url}/{digest}?signature=once"}
        return self.answer(302, b"", common | linked | location)

    def is_refused(self, repo: Repo) -> bool:
        return repo.gated and self.hub.log[-1].token != self.hub.accepted_token

    def refuse_gated(self) -> None:
        status = 403 if self.hub.log[-1].token else 401
        self.answer(status, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "gated"})

    def no_revision(self) -> None:
        self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})

    def json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.answer(200, body, {"Content-Type": "application/json"})


def _info(name: str, repo: Repo, files: Mapping[str, bytes]) -> dict[str, Any]:
    """As GET /api/models/NAME/revision/REV?blobs=true has it."""
    return {
        "id": name,
        "sha": commit_of(files),
        "private": repo.private,
        "gated": "auto" if repo.gated else False,
        "tags": [],
        "downloads": 0,
        "cardData": {"license": repo.licence},
        "siblings": [_sibling(file, content) for file, content in files.items()],
    }


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    known = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
    if len(content) >= LARGE:
        known["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
    return known


def _tree(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """As GET /api/models/NAME/tree/REV?recursive=true has it."""
    return [
        {"type": "file", "path": name, "size": len(content), "oid": git_sha1(content)}
        | (
            {"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 134}}
            if len(content) >= LARGE
            else {}
        )
        for name, content in files.items()
    ]


class _StorageHandler(_Handler):
    host = "storage"

    def do_GET(self) -> None:
        request = self.begin()
        fault = self.hub.next_fault(at_hub=False)
        parts = urlsplit(self.path)
        content = self.hub.content(parts.path.strip("/"))
        if content is None or parse_qs(parts.query).get("signature") != ["once"]:
            return self.answer(403)
        if fault.status:
            return self.answer(fault.status, b"", fault.headers)
        etag = '"another"' if fault.new_etag else self.hub.etag(content)
        stale = request.if_range not in ("", etag)
        start = 0 if fault.ignore_range or stale else request.start
        if start and start >= len(content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        return self.send(request, content, start, etag, fault)

    def send(self, request: Request, content: bytes, start: int, etag: str, fault: Fault) -> None:
        body = memoryview(content)[start:]
        if fault.wrong_bytes:
            body = memoryview(bytes(len(body)))
        if fault.wrong_length:
            body = memoryview(bytes(body) + b"!")
        request.status = 206 if start else 200
        self.send_response(request.status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.pour(request, body, fault)

    def pour(self, request: Request, body: memoryview, fault: Fault) -> None:
        stop = fault.cut_after if fault.cut_after is not None else fault.stall_after
        end = len(body) if stop is None else min(stop, len(body))
        while request.sent < end:
            block = body[request.sent : min(request.sent + BLOCK, end)]
            self.wfile.write(block)
            request.sent += len(block)
            self.hub.on_sent(self.hub.sent())
            time.sleep(self.hub.seconds_per_block)
        if fault.stall_after is not None:
            time.sleep(fault.seconds)
        if stop is not None:
            self.close_connection = True
