"""One cache for everybody: what huggingface_hub brought is found here, and the other way round."""

from __future__ import annotations

from pathlib import Path

import pytest
from hub_server import LoopbackHub, Repo

from komt_local import library
from komt_local.errors import ModelNotFound
from komt_local.hub import Hub, download
from komt_local.hub.api import read_repository

NAME = "Org/Model-GGUF"
FILES = {
    "model-Q4_K_M.gguf": b"GGUF" + b"4" * 50_000,
    "model-Q8_0.gguf": b"GGUF" + b"8" * 90_000,
    "README.md": b"---\nlicense: mit\n---\n",
}


@pytest.fixture(autouse=True)
def repo(server: LoopbackHub) -> None:
    server.repos[NAME] = Repo(FILES, revisions={"v1": {"model-Q8_0.gguf": b"GGUF" + b"1" * 9000}})


def test_their_client_finds_what_we_brought(server: LoopbackHub, client: Hub) -> None:
    from huggingface_hub import hf_hub_download

    repository = read_repository(client, NAME)
    ours = {name: download.download(client, repository, f) for name, f in repository.files.items()}
    asked = len(server.bodies())
    for name, path in ours.items():
        theirs = hf_hub_download(NAME, name, endpoint=server.url, cache_dir=client.cache)
        assert Path(theirs) == path
        local = hf_hub_download(NAME, name, cache_dir=client.cache, local_files_only=True)
        assert Path(local) == path
    assert len(server.bodies()) == asked


def test_we_find_what_their_client_brought(server: LoopbackHub, client: Hub) -> None:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        NAME, endpoint=server.url, cache_dir=client.cache, allow_patterns="*.gguf", max_workers=1
    )
    asked = len(server.bodies())
    repository = read_repository(client, NAME)
    path = download.download(client, repository, repository.files["model-Q4_K_M.gguf"])
    assert path == Path(folder) / "model-Q4_K_M.gguf"
    assert len(server.bodies()) == asked
    assert library.resolve(f"{NAME}:q4_k_m") == path
    assert library.resolve(NAME.lower()).name == "model-Q8_0.gguf"


def test_the_cache_scanner_of_others_has_no_complaint(client: Hub) -> None:
    from huggingface_hub import scan_cache_dir

    repository = read_repository(client, NAME)
    for file in repository.files.values():
        download.download(client, repository, file)
    found = scan_cache_dir(client.cache)
    assert not found.warnings
    assert {repo.repo_id for repo in found.repos} == {NAME}
    assert found.size_on_disk == sum(map(len, FILES.values()))


def test_a_pinned_revision_is_found_under_its_name_and_commit(client: Hub) -> None:
    repository = read_repository(client, NAME, "v1")
    path = download.download(client, repository, repository.files["model-Q8_0.gguf"])
    assert library.resolve(f"{NAME}@v1") == path
    assert library.resolve(f"{NAME}:Q8_0@{repository.commit}") == path
    assert library.resolve(f"{NAME}:Q8_0@{repository.commit[:8]}") == path
    assert library.resolve(NAME) == path
    with pytest.raises(ModelNotFound, match="komt-local pull"):
        library.resolve(f"{NAME}@v2")
