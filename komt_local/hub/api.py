"""The seam to huggingface_hub: which hub, whose token, what a repository holds.

All that it does well is left to it: the API, tokens, the endpoint, offline and cache variables.
Its failures become ours in `failures`. The bytes of large files are the business of `download`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import DownloadError
from ..references import is_safe_file
from . import waiting
from .failures import asked, offline

_TIMEOUT = 15.0
"""Seconds that the API has for an answer."""


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub, and the cache that its files go to.

    `token` None lets huggingface_hub find one (HF_TOKEN, `hf auth login`), False sends none.
    """

    endpoint: str
    cache: Path
    token: str | bool | None = None
    offline: bool = False

    @staticmethod
    def here(*, offline: bool = False) -> Hub:
        """As huggingface_hub's variables say: HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE."""
        from huggingface_hub import constants

        is_offline = offline or constants.HF_HUB_OFFLINE
        return Hub(constants.ENDPOINT, Path(constants.HF_HUB_CACHE), offline=is_offline)

    @property
    def host(self) -> str:
        return urlsplit(self.endpoint).netloc

    def headers(self) -> dict[str, str]:
        """What goes with a request to the hub itself, the token among it."""
        from .. import __version__

        build = utils().build_hf_headers
        return dict(build(token=self.token, library_name="komt-local", library_version=__version__))

    @property
    def has_token(self) -> bool:
        return "authorization" in self.headers()

    def url(self, repo: str, commit: str, file: str) -> str:
        """Where a file is asked for."""
        from urllib.parse import quote

        return f"{self.endpoint}/{repo}/resolve/{commit}/{quote(file)}"


def utils() -> Any:
    """huggingface_hub.utils, whose public names a type checker cannot see."""
    import huggingface_hub.utils

    return huggingface_hub.utils


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on the hub. `digest` names its blob: SHA-256 for large files, else git's SHA-1."""

    name: str
    size: int
    digest: str
    is_large: bool


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository at one commit; `revision` is what was asked for."""

    name: str
    revision: str
    commit: str
    files: Mapping[str, RemoteFile]
    licence: str
    parameters: int = 0
    """As the hub counts them in safetensors; 0 where it does not."""

    def sizes(self) -> dict[str, int]:
        """Bytes by file name."""
        return {name: file.size for name, file in self.files.items()}


def read_repository(
    hub: Hub, name: str, revision: str = "", *, wait: waiting.Wait = time.sleep
) -> Repository:
    """What `org/repo` holds at a revision (`main` without one), and leave to read it.

    Raises ModelNotFound, GatedError, OfflineError or DownloadError.
    """
    if hub.offline:
        raise offline(name)
    api = _api(hub)
    info = asked(
        hub,
        name,
        revision,
        lambda: api.model_info(
            name, revision=revision or "main", files_metadata=True, timeout=_TIMEOUT
        ),
        wait,
    )
    if info.gated:
        asked(hub, name, revision, lambda: api.auth_check(name), wait)
    files = {item.rfilename: _remote_file(name, item) for item in info.siblings or ()}
    parameters = int(info.safetensors.total) if info.safetensors else 0
    return Repository(info.id, revision or "main", info.sha, files, _licence(info), parameters)


def _api(hub: Hub) -> Any:
    from huggingface_hub import HfApi

    from .. import __version__

    return HfApi(
        endpoint=hub.endpoint,
        token=hub.token,
        library_name="komt-local",
        library_version=__version__,
    )


def _remote_file(repo: str, item: Any) -> RemoteFile:
    """One entry of the listing, held against names that would leave the cache."""
    name = item.rfilename
    digest = item.lfs.sha256 if item.lfs else item.blob_id
    if not is_safe_file(name) or not _is_digest(digest):
        raise DownloadError(
            f"{repo} lists a file that is not safe to write, {name!r}; nothing was downloaded, "
            "tell its owner.",
            f"{repo} 저장소에 저장하면 위험한 파일 이름 {name!r}이(가) 있어 아무것도 받지 "
            "않았습니다. 저장소 주인에게 알리세요.",
        )
    return RemoteFile(name, int(item.size or 0), digest, item.lfs is not None)


def _is_digest(text: Any) -> bool:
    return (
        isinstance(text, str) and len(text) in (40, 64) and not set(text) - set("0123456789abcdef")
    )


def _licence(info: Any) -> str:
    """As the card states it, by the publisher's own name where it has one."""
    card = info.card_data.to_dict() if info.card_data else {}
    licence = card.get("license_name") or card.get("license") or ""
    if isinstance(licence, list):
        licence = ", ".join(map(str, licence))
    return str(licence)
