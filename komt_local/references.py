"""How a model is named, everywhere: one grammar, taken apart here and looked up nowhere.

    ./komt.gguf                     a path
    komt-mistral-7b-v1:Q8_0         a name: an alias of one's own, of the library, of the catalogue
    org/repo                        a repository on the Hugging Face Hub, the type chosen by memory
    org/repo:Q4_K_M                 the same with the type; case does not matter
    org/repo/folder/file.gguf       one file of it
    …@REVISION                      any of the last four, pinned to a branch, tag or commit
    hf.co/…  hf://…  https://huggingface.co/org/repo/blob/main/file.gguf

A path that exists is taken as one before anything is parsed; that is the library's business.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import unquote, urlsplit

from .errors import BadReference

Kind = Literal["path", "name", "repo"]

HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")

_LONGEST = 4096
_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_PINNED = r"@(?P<pinned>refs/(?:pr|convert)/[\w.-]+|[^/@:]+)"
_TYPE = r":(?P<type>[A-Za-z0-9][\w.-]*)"
_FILE = r"/(?P<file>[^@:]+\.[gG][gG][uU][fF])"
_AT_END = r"@(?P<at_end>[^@:]+)"
_IN_REPO = re.compile(rf"{_REPO}(?:{_PINNED})?(?:{_TYPE}|{_FILE})?(?:{_AT_END})?", re.ASCII)
_NAMED = re.compile(rf"(?P<name>\w[\w.+-]*)(?:{_PINNED})?(?:{_TYPE})?(?:{_AT_END})?")
_PAGE = re.compile(rf"{_REPO}/(?:blob|resolve|raw|tree)/(?P<rest>.+)", re.ASCII)
_SPECIAL_BRANCH = re.compile(r"(refs/(?:pr|convert)/[^/]+)(?:/(.+))?")
_LOOKS_LIKE_PATH = re.compile(r"[.~]{0,2}/|~|[A-Za-z]:[\\/]|\.{1,2}$|.*\\")
_NAME_OF_ONE = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """What a user called a model.

    `name` is the path, the alias, or `org/repo`; `type` is a quantization type in capitals, `file`
    a path inside the repository, `revision` a branch, tag or commit; each is empty when not given.
    `str()` gives a text that parses to the same again.
    """

    kind: Kind
    name: str
    type: str = ""
    file: str = ""
    revision: str = ""

    def __str__(self) -> str:
        type_ = f":{self.type}" if self.type else ""
        file = f"/{self.file}" if self.file else ""
        return self.name + type_ + file + (f"@{self.revision}" if self.revision else "")


def parse(text: str) -> Reference:
    """Take a reference apart; raises BadReference for what is none."""
    if not text or len(text) > _LONGEST or _has_control(text):
        raise _bad(text)
    if (inside := _after_host(text)) is not None:
        return _in_hub(inside, text)
    if _is_path(text):
        return Reference("path", text)
    if "/" in text.partition("@")[0]:
        return _in_hub(text, text)
    return _named(text)


def is_name(text: str) -> bool:
    """Whether the text can be the name of an alias: one word that is no path."""
    return _NAME_OF_ONE.fullmatch(text) is not None and not _is_path(text)


def is_safe_file(name: str) -> bool:
    """Whether a file name that a repository gives stays inside the folder it is written to.

    Refused are `..`, absolute paths, drive letters, backslashes, control and format characters.
    """
    parts = name.split("/")
    return (
        0 < len(name) <= 1024
        and not _has_control(name)
        and "\\" not in name
        and not re.match("[A-Za-z]:", name)
        and not any(part in ("", ".", "..") for part in parts)
    )


def _is_path(text: str) -> bool:
    short_file = text.lower().endswith(".gguf") and text.count("/") < 2 and "@" not in text
    return short_file or _LOOKS_LIKE_PATH.match(text) is not None


def _after_host(text: str) -> str | None:
    """What follows the hub's name in an address; None for what is no address."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() == "hf":
        return rest.removeprefix("models/") if rest.count("/") > 1 else rest
    if not separator:
        host, slash, rest = text.partition("/")
        return rest if slash and host.lower() in _hosts() else None
    try:
        address = urlsplit(text)
        host = address.hostname or ""
    except ValueError:
        raise _bad(text) from None
    if scheme.lower() not in ("http", "https") or host not in _hosts():
        raise _other_host(text)
    return unquote(address.path).strip("/")


def _hosts() -> tuple[str, ...]:
    """Names of the hub, with that of a mirror if one is set."""
    mirror = os.environ.get("HF_ENDPOINT", "")
    return (*HUB_HOSTS, *([urlsplit(mirror).hostname or ""] if "://" in mirror else []))


def _in_hub(text: str, whole: str) -> Reference:
    if text.startswith(("datasets/", "spaces/", "kernels/")):
        raise _bad(whole)
    if page := _PAGE.fullmatch(text):
        revision, file = _split_page(page["rest"])
        reference = Reference("repo", page["repo"], file=file, revision=revision)
    elif match := _IN_REPO.fullmatch(text):
        revision = _one_revision(match["pinned"], match["at_end"], whole)
        type_ = _clean_type(match["type"])
        reference = Reference("repo", match["repo"], type_, match["file"] or "", revision)
    else:
        raise _bad(whole)
    return _checked(reference, whole)


def _split_page(rest: str) -> tuple[str, str]:
    """Revision and file of a page's address; a branch with a slash in its name cannot be told."""
    if special := _SPECIAL_BRANCH.fullmatch(rest):
        return special[1], special[2] or ""
    revision, _, file = rest.partition("/")
    return revision, file


def _named(text: str) -> Reference:
    match = _NAMED.fullmatch(text)
    if match is None:
        raise _bad(text)
    revision = _one_revision(match["pinned"], match["at_end"], text)
    reference = Reference("name", match["name"], _clean_type(match["type"]), revision=revision)
    return _checked(reference, text)


def _clean_type(text: str | None) -> str:
    """In capitals; `latest`, as Ollama has it, is no choice."""
    type_ = (text or "").upper()
    return "" if type_ == "LATEST" else type_


def _one_revision(first: str | None, second: str | None, text: str) -> str:
    if first and second:
        raise _bad(text)
    return first or second or ""


def _checked(reference: Reference, text: str) -> Reference:
    """Hold the parts against what the hub allows, so that none can leave its folder."""
    if reference.revision == "main":
        reference = replace(reference, revision="")
    parts = reference.name.split("/")
    if (
        (reference.kind == "repo" and not all(_is_repo_part(part) for part in parts))
        or (reference.revision and not _is_revision(reference.revision))
        or (reference.file and not _is_model_file(reference.file))
    ):
        raise _bad(text)
    return reference


def _is_repo_part(part: str) -> bool:
    """As huggingface_hub has it: no `--`, no `..`, no dash or dot at either end."""
    return (
        0 < len(part) <= 96
        and "--" not in part
        and ".." not in part
        and part[0] not in "-."
        and part[-1] not in "-."
    )


def _is_model_file(text: str) -> bool:
    return is_safe_file(text) and text.lower().endswith(".gguf") and not set(text) & set("@:")


def _is_revision(text: str) -> bool:
    return is_safe_file(text) and text[0] != "-" and not set(text) & set("@: ")


def _has_control(text: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in text)


def _bad(text: str) -> BadReference:
    shown = repr(text if len(text) <= 100 else text[:100] + "…")
    return BadReference(
        f"{shown} does not name a model; give a path, org/repo, org/repo:Q4_K_M, "
        "org/repo/file.gguf, or a name that `komt-local list --all` shows.",
        f"{shown}은(는) 모델 이름이 아닙니다. 경로, org/repo, org/repo:Q4_K_M, "
        "org/repo/file.gguf 또는 `komt-local list --all`에 나오는 이름을 주세요.",
    )


def _other_host(text: str) -> BadReference:
    return BadReference(
        f"{text[:200]!r} is not an address of the Hugging Face Hub; download the file yourself and "
        "give its path.",
        f"{text[:200]!r}은(는) 허깅 페이스 허브의 주소가 아닙니다. 직접 내려받아 그 경로를 주세요.",
    )
