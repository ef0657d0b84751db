"""One file from a hub that misbehaves: it comes whole and right, or not at all."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_server import Fault, LoopbackHub, Repo, git_sha1, sha256

from komt_local.errors import DownloadError, GatedError, ModelNotFound, OfflineError
from komt_local.hub import Hub, download, transfer
from komt_local.hub.api import Repository, read_repository
from komt_local.hub.download import Progress

SIZE = 3_000_000
CONTENT = random.Random(1).randbytes(SIZE)
NAME = "org/model"
FILE = "model-Q8_0.gguf"


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def repository(server: LoopbackHub, client: Hub) -> Repository:
    server.repos[NAME] = Repo({FILE: CONTENT, "config.json": b"{}", "folder/a.txt": b"a"})
    return read_repository(client, NAME)


@pytest.fixture
def get(client: Hub, repository: Repository, waits: list[float]) -> Callable[..., Path]:
    def run(name: str = FILE, **given: Any) -> Path:
        return download.download(
            client, repository, repository.files[name], wait=waits.append, **given
        )

    return run


def partial_of(client: Hub) -> Path:
    return client.cache / "models--org--model" / "blobs" / f"{sha256(CONTENT)}.incomplete"


def leave_partial(client: Hub, content: bytes) -> None:
    path = partial_of(client)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_file_comes_into_the_layout_of_the_cache(
    get: Callable[..., Path], client: Hub, repository: Repository, server: LoopbackHub
) -> None:
    path = get()
    root = client.cache / "models--org--model"
    assert path == root / "snapshots" / repository.commit / FILE
    assert path.read_bytes() == CONTENT
    assert path.resolve() == root / "blobs" / sha256(CONTENT)
    assert os.readlink(path) == f"../../blobs/{sha256(CONTENT)}"
    assert (root / "refs" / "main").read_text() == repository.commit
    assert not list(root.rglob("*.incomplete"))
    assert get() == path
    assert server.sent() == SIZE


def test_small_files_are_held_to_the_hash_of_git(
    get: Callable[..., Path], client: Hub, server: LoopbackHub
) -> None:
    path = get("folder/a.txt")
    assert path.read_bytes() == b"a"
    assert path.resolve().name == git_sha1(b"a")
    assert server.bodies() == []


@pytest.mark.parametrize("cuts", [[0], [1], [100_000], [0, 70_000, 0, 1_500_000, 1]])
def test_cut_connections_are_resumed_where_they_ended(
    get: Callable[..., Path], server: LoopbackHub, cuts: list[int]
) -> None:
    server.faults = [Fault(cut_after=cut) for cut in cuts]
    assert get().read_bytes() == CONTENT
    starts = [request.start for request in server.bodies()]
    assert starts == [sum(cuts[:i]) for i in range(len(cuts) + 1)]
    assert server.sent() == SIZE


def test_a_later_try_is_pinned_to_the_first_answer(
    get: Callable[..., Path], server: LoopbackHub
) -> None:
    server.faults = [Fault(cut_after=100_000)]
    get()
    first, second = server.bodies()
    assert first.if_range == ""
    assert second.if_range == server.etag(CONTENT)
    assert second.start == 100_000


def test_a_storage_host_that_changed_its_file_serves_all_of_it(
    get: Callable[..., Path], server: LoopbackHub
) -> None:
    server.faults = [Fault(cut_after=100_000), Fault(new_etag=True)]
    assert get().read_bytes() == CONTENT
    assert [request.status for request in server.bodies()] == [200, 200]
    assert server.sent() == 100_000 + SIZE


def test_what_an_earlier_run_left_is_taken_up(
    get: Callable[..., Path], client: Hub, server: LoopbackHub
) -> None:
    leave_partial(client, CONTENT[:1_234_567])
    seen: list[Progress] = []
    assert get(on_progress=seen.append).read_bytes() == CONTENT
    assert [request.start for request in server.bodies()] == [1_234_567]
    assert server.sent() == SIZE - 1_234_567
    assert [step.done for step in seen if step.stage == "check"][-1] == 1_234_567
    assert [step.done for step in seen if step.stage == "download"][-1] == SIZE


def test_a_whole_partial_file_needs_no_bytes(
    get: Callable[..., Path], client: Hub, server: LoopbackHub
) -> None:
    leave_partial(client, CONTENT)
    assert get().read_bytes() == CONTENT
    assert server.bodies() == []


@pytest.mark.parametrize(
    "left", [b"x" * 5000, CONTENT + b"more", b"x" * SIZE], ids=["other", "too long", "all wrong"]
)
def test_a_partial_file_that_is_wrong_is_begun_anew(
    get: Callable[..., Path], client: Hub, left: bytes
) -> None:
    leave_partial(client, left)
    assert get().read_bytes() == CONTENT


def test_an_ignored_range_starts_over(
    get: Callable[..., Path], client: Hub, server: LoopbackHub
) -> None:
    leave_partial(client, CONTENT[:500_000])
    server.faults = [Fault(ignore_range=True)]
    assert get().read_bytes() == CONTENT
    assert server.sent() == SIZE


def test_an_unsatisfiable_range_starts_over(
    get: Callable[..., Path], client: Hub, server: LoopbackHub
) -> None:
    leave_partial(client, CONTENT[:500_000])
    server.faults = [Fault(status=416, headers={"Content-Range": f"bytes */{SIZE}"})]
    assert get().read_bytes() == CONTENT
    assert [request.start for request in server.bodies()] == [500_000, 0]


@pytest.mark.parametrize(
    "fault", [Fault(wrong_bytes=True), Fault(wrong_etag=True), Fault(wrong_length=True)]
)
def test_a_changed_file_starts_over(
    get: Callable[..., Path], server: LoopbackHub, fault: Fault
) -> None:
    server.faults = [fault]
    assert get().read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["wrong_bytes", "wrong_etag", "wrong_length"])
def test_a_hub_that_keeps_serving_other_bytes_gets_nothing_stored(
    get: Callable[..., Path], client: Hub, server: LoopbackHub, kind: str
) -> None:
    server.faults = [Fault(**{kind: True})] * 20  # type: ignore[arg-type]
    with pytest.raises(DownloadError, match="other bytes than its digest says"):
        get()
    assert not partial_of(client).exists()
    assert not list(client.cache.rglob("*.gguf"))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_waited_for(
    get: Callable[..., Path], server: LoopbackHub, waits: list[float], status: int
) -> None:
    server.faults = [Fault(status=status), Fault(cut_after=1000), Fault(status=status)]
    assert get().read_bytes() == CONTENT
    assert waits == [0.5, 0.5, 1.0]


def test_retry_after_is_obeyed(
    get: Callable[..., Path], server: LoopbackHub, waits: list[float]
) -> None:
    server.faults = [Fault(status=429, headers={"Retry-After": "7"})]
    get()
    assert waits == [7.0]


def test_a_very_long_retry_after_is_told(get: Callable[..., Path], server: LoopbackHub) -> None:
    server.faults = [Fault(status=429, headers={"Retry-After": "86400"})]
    with pytest.raises(DownloadError, match="429"):
        get()


def test_the_tries_end(
    get: Callable[..., Path], client: Hub, server: LoopbackHub, waits: list[float]
) -> None:
    server.faults = [Fault(cut_after=70_000), *[Fault(status=503)] * 20]
    with pytest.raises(DownloadError, match="what has come is kept"):
        get()
    assert partial_of(client).read_bytes() == CONTENT[:70_000]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_a_stall_is_a_failed_try(
    get: Callable[..., Path], server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    server.faults = [Fault(stall_after=200_000, seconds=1.0)]
    assert get().read_bytes() == CONTENT
    assert [request.start for request in server.bodies()] == [0, 200_000]


def test_the_token_goes_to_the_hub_only(
    server: LoopbackHub, client: Hub, repository: Repository
) -> None:
    known = Hub(client.endpoint, client.cache, token="hf_secret")
    download.download(known, repository, repository.files[FILE])
    asked = [request for request in server.log if "/resolve/" in request.path]
    assert [request.token for request in asked] == ["hf_secret"]
    assert [request.token for request in server.bodies()] == [""]


@pytest.mark.parametrize(
    ("target", "refused"),
    [
        ("file:///etc/passwd", True),
        ("ftp://example.org/x", True),
        ("http://other.example/x", True),
        ("https://other.example/x", False),
        ("/elsewhere", False),
    ],
)
def test_a_redirect_leads_nowhere_less_safe(target: str, refused: bool) -> None:
    if refused:
        with pytest.raises(transfer.Passing, match="redirect"):
            transfer._next("https://hub.example/a", target)
    else:
        assert transfer._next("https://hub.example/a", target).startswith("https://")


@pytest.mark.parametrize("token", [False, "hf_other", "hf_accepted"])
def test_a_gated_repository(server: LoopbackHub, client: Hub, token: str | bool) -> None:
    server.repos[NAME] = Repo({FILE: CONTENT}, gated=True)
    hub = Hub(client.endpoint, client.cache, token=token)
    if token == "hf_accepted":
        assert read_repository(hub, NAME).files
        return
    with pytest.raises(GatedError) as caught:
        read_repository(hub, NAME)
    assert f"{server.url}/{NAME}" in str(caught.value)
    assert ("hf auth login" in str(caught.value)) == (token is False)


@pytest.mark.parametrize("token", [False, "hf_other", "hf_accepted"])
def test_a_private_repository(server: LoopbackHub, client: Hub, token: str | bool) -> None:
    server.repos[NAME] = Repo({FILE: CONTENT}, private=True)
    hub = Hub(client.endpoint, client.cache, token=token)
    if token == "hf_accepted":
        assert read_repository(hub, NAME).files
    else:
        with pytest.raises(ModelNotFound, match=r"hf auth (login|whoami)"):
            read_repository(hub, NAME)


def test_revisions_are_pinned(server: LoopbackHub, client: Hub) -> None:
    old = {FILE: CONTENT[::-1]}
    server.repos[NAME] = Repo({FILE: CONTENT}, revisions={"v1": old})
    repository = read_repository(client, NAME, "v1")
    assert download.download(client, repository, repository.files[FILE]).read_bytes() == old[FILE]
    assert (client.cache / "models--org--model/refs/v1").read_text() == repository.commit
    with pytest.raises(ModelNotFound, match="no revision 'v9'"):
        read_repository(client, NAME, "v9")


def test_an_unknown_repository(server: LoopbackHub, client: Hub) -> None:
    with pytest.raises(ModelNotFound, match="no public repository org/none"):
        read_repository(client, "org/none")


@pytest.mark.parametrize("name", ["../evil.gguf", "/etc/x.gguf", "a/../../x", "a\\b", "a\x1bb"])
def test_a_name_that_leaves_the_folder_is_refused(
    server: LoopbackHub, client: Hub, name: str
) -> None:
    server.repos[NAME] = Repo({FILE: CONTENT, name: b"evil"})
    with pytest.raises(DownloadError, match="not safe to write"):
        read_repository(client, NAME)
    assert not client.cache.exists()


def test_the_api_is_asked_again(
    server: LoopbackHub, client: Hub, repository: Repository, waits: list[float]
) -> None:
    server.faults = [
        Fault(status=503, at_hub=True),
        Fault(status=429, headers={"Retry-After": "3"}, at_hub=True),
    ]
    assert read_repository(client, NAME, wait=waits.append) == repository
    assert waits == [0.5, 3.0]


def test_a_hub_that_is_not_there(client: Hub, waits: list[float]) -> None:
    nowhere = Hub("http://127.0.0.1:9", client.cache, token=False)
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9"):
        read_repository(nowhere, NAME, wait=waits.append)


def test_offline_finds_what_is_here_and_asks_nobody(
    get: Callable[..., Path], server: LoopbackHub, client: Hub, repository: Repository
) -> None:
    path = get()
    asked = len(server.log)
    offline = Hub(client.endpoint, client.cache, offline=True)
    assert download.download(offline, repository, repository.files[FILE]) == path
    with pytest.raises(OfflineError):
        download.download(offline, repository, repository.files["config.json"])
    with pytest.raises(OfflineError):
        read_repository(offline, NAME)
    assert len(server.log) == asked


def test_too_little_disk_is_said_before_the_first_byte(
    get: Callable[..., Path], server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DownloadError, match="free"):
        get()
    assert server.bodies() == []


def test_a_disk_that_fills_up_keeps_what_came(
    get: Callable[..., Path], client: Hub, server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(fd: int, data: Any) -> int:
        if os.fstat(fd).st_size + len(data) > 1_000_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(DownloadError, match="is full"):
            get()
    kept = partial_of(client).stat().st_size
    assert 0 < kept <= 1_000_000
    assert get().read_bytes() == CONTENT
    assert server.bodies()[-1].start == kept


def test_without_links_the_file_itself_is_in_the_snapshot(
    get: Callable[..., Path], client: Hub, monkeypatch: pytest.MonkeyPatch, server: LoopbackHub
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True, raising=False)
    path = get()
    assert path.read_bytes() == CONTENT
    assert not path.is_symlink()
    assert get() == path
    assert server.sent() == SIZE


def test_a_cache_that_cannot_be_written(
    client: Hub, repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    blocked = Hub(client.endpoint, tmp_path / "file" / "cache", token=False)
    with pytest.raises(DownloadError, match=r"cannot be written .* HF_HOME"):
        download.download(blocked, repository, repository.files[FILE])
