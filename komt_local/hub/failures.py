"""What huggingface_hub raises, as sentences of ours; and asking again while a failure may pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..errors import DownloadError, GatedError, KomtError, ModelNotFound, OfflineError
from . import waiting

if TYPE_CHECKING:
    from .api import Hub

T = TypeVar("T")


def asked(hub: Hub, name: str, revision: str, call: Callable[[], T], wait: waiting.Wait) -> T:
    """The answer of the API, asked again while the failure may pass."""
    patience = waiting.Patience(wait)
    while True:
        try:
            return call()
        except (OSError, http_error()) as error:
            again = _after(error)
            if again is None or not patience.again(again.seconds):
                raise from_hub(error, hub, name, revision) from error


def _after(error: Exception) -> waiting.Delay | None:
    """How long to wait before asking again; None when that is no use."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return None
    response = getattr(error, "response", None)
    if response is None:
        return waiting.Delay(None)
    return waiting.delay(response.status_code, response.headers)


def http_error() -> type[Exception]:
    """The base of the errors of huggingface_hub's HTTP client: httpx, from 2.0 on httpx2."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(kind for kind in HfHubHTTPError.__mro__ if kind.__name__ == "HTTPError")


def from_hub(error: Exception, hub: Hub, name: str, revision: str = "") -> KomtError:
    """What the hub's client raised, as a sentence of ours."""
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.GatedRepoError):
        return _gated(hub, name)
    if isinstance(error, errors.RevisionNotFoundError):
        return _no_revision(hub, name, revision)
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 403, 404):
        return _no_repository(hub, name)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return offline(name)
    return unreachable(hub, name, _reason(error, status))


def _reason(error: Exception, status: int | None) -> str:
    if status:
        return f"HTTP {status}"
    return str(error).partition("\n")[0] or type(error).__name__


def unreachable(hub: Hub, name: str, reason: str) -> DownloadError:
    """The hub does not answer, or not as it should."""
    return DownloadError(
        f"{name} cannot be had from {hub.host} ({reason}); check the connection and try again, "
        "what has come is kept.",
        f"{hub.host}에서 {name}을(를) 받을 수 없습니다({reason}). 연결을 확인하고 다시 해 보세요. "
        "지금까지 받은 것은 남아 있습니다.",
    )


def offline(name: str) -> OfflineError:
    """The refusal to reach for the network."""
    return OfflineError(
        f"{name} is not whole on this machine, and offline was asked for; try again without "
        "--offline and HF_HUB_OFFLINE.",
        f"{name} 모델이 이 컴퓨터에 온전히 없는데 오프라인으로 실행했습니다. --offline과 "
        "HF_HUB_OFFLINE 없이 다시 해 보세요.",
    )


def _gated(hub: Hub, name: str) -> GatedError:
    page = f"{hub.endpoint}/{name}"
    if hub.has_token:
        return GatedError(
            f"{name} is gated: accept its licence at {page} with the account of your token, then "
            "pull again.",
            f"{name}은(는) 승인이 필요한 모델입니다. 토큰의 계정으로 {page}에서 라이선스에 동의한 "
            "뒤 다시 받으세요.",
        )
    return GatedError(
        f"{name} is gated: accept its licence at {page}, then log in with `hf auth login` or set "
        "HF_TOKEN, and pull again.",
        f"{name}은(는) 승인이 필요한 모델입니다. {page}에서 라이선스에 동의하고 "
        "`hf auth login`으로 로그인하거나 HF_TOKEN을 설정한 뒤 다시 받으세요.",
    )


def _no_repository(hub: Hub, name: str) -> ModelNotFound:
    if hub.has_token:
        return ModelNotFound(
            f"{hub.host} has no {name} that your token may read; check the name, and the token "
            "with `hf auth whoami`.",
            f"{hub.host}에 토큰으로 읽을 수 있는 {name}이(가) 없습니다. 이름을 확인하고 "
            "`hf auth whoami`로 토큰을 확인하세요.",
        )
    return ModelNotFound(
        f"{hub.host} has no public repository {name}; check the name, or if it is private, log in "
        "with `hf auth login` or set HF_TOKEN.",
        f"{hub.host}에 공개 저장소 {name}이(가) 없습니다. 이름을 확인하거나, 비공개라면 "
        "`hf auth login`으로 로그인하거나 HF_TOKEN을 설정하세요.",
    )


def _no_revision(hub: Hub, name: str, revision: str) -> ModelNotFound:
    page = f"{hub.endpoint}/{name}/commits/main"
    return ModelNotFound(
        f"{name} has no revision {revision!r}; see {page}, or leave out the @.",
        f"{name}에 {revision!r} 리비전이 없습니다. {page}에서 확인하거나 @를 빼세요.",
    )
