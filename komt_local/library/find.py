"""From what a user calls a model to a file that is on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import ModelNotFound, UsageError
from ..references import Reference, parse
from . import cache, records

if TYPE_CHECKING:
    from ..catalogue import Model

EMBEDDED_NAME = "komt-local-demo"
_EMBEDDED_PATH = Path(__file__).parent.parent / "demo" / "komt-local-demo-Q8_0.gguf"


def embedded() -> Path:
    """The model that comes with the program: it knows komt-local, and nothing else."""
    return _EMBEDDED_PATH


def resolve(reference: str | Path | None = None) -> Path:
    """The GGUF file that `reference` names; without one, the default, else the embedded model.

    An existing path comes first, then the embedded model, the user's aliases, what was made or
    imported, the catalogue, and the Hugging Face cache. Raises ModelNotFound, saying what to do
    instead, when there is no such file here; nothing is downloaded.
    """
    if reference is None:
        default = records.load().default
        return resolve_text(default) if default else embedded()
    return resolve_text(str(reference))


def resolve_text(text: str) -> Path:
    """The file that a reference names; see `resolve`."""
    if path := existing_file(text):
        return path
    if text == EMBEDDED_NAME:
        return embedded()
    reference = expand(text)
    if reference.kind == "path":
        return existing_file(reference.name) or _no_file(reference.name)
    found = _recorded(reference) or _of_catalogue(reference) or _cached(reference)
    if found is None:
        raise _not_here(reference)
    return found


def template_for(path: Path, said: Mapping[str, Any] | None = None) -> str | None:
    """The template that the catalogue knows for a file which carries none."""
    model = model_for(path, said)
    return (model.template or None) if model else None


def model_for(path: Path, said: Mapping[str, Any] | None = None) -> Model | None:
    """What the catalogue knows of a file.

    By the repository that it came from, else by what its metadata (`said`) calls itself.
    """
    from .. import catalogue

    repo = origin(path).repo
    model = catalogue.of_repo(repo) if repo else None
    return model or catalogue.of_identity(said or {})


@dataclass(frozen=True, slots=True)
class Origin:
    """The repository and the commit that a file came from, and its licence; empty if unknown."""

    repo: str
    revision: str
    licence: str


def origin(path: Path) -> Origin:
    """Where a file came from: as recorded, or as its place in the Hugging Face cache tells."""
    record = records.load().records.get(str(path.absolute()))
    if record:
        return Origin(record.repo, record.revision, record.licence)
    return Origin(cache.repo_of(path), cache.commit_of(path), "")


def existing_file(text: str) -> Path | None:
    """The file at that path, if there is one; raises ModelNotFound for a folder."""
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            raise _is_folder(path)
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL inside, ~ of nobody
        return None


def expand(text: str) -> Reference:
    """The parsed reference, the user's own aliases put in; a type or revision of its own wins."""
    aliases = records.load().aliases
    reference = parse(text)
    seen = set()
    while reference.kind == "name" and reference.name in aliases:
        if reference.name in seen:
            raise UsageError(
                f"The alias {reference.name!r} leads back to itself; change it with "
                "`komt-local alias NAME REFERENCE`.",
                f"별칭 {reference.name!r}이(가) 자기 자신을 가리킵니다. `komt-local alias NAME "
                "REFERENCE`로 고치세요.",
            )
        seen.add(reference.name)
        target = parse(aliases[reference.name])
        reference = replace(
            target,
            type=reference.type or target.type,
            revision=reference.revision or target.revision,
        )
    return reference


def _no_file(path: str) -> NoReturn:
    raise ModelNotFound(
        f"There is no model file {path!r}; give the path of a GGUF file, "
        "or make one with `komt-local convert`.",
        f"모델 파일 {path!r}이(가) 없습니다. GGUF 파일의 경로를 주거나 "
        "`komt-local convert`로 만드세요.",
    )


def _recorded(reference: Reference) -> Path | None:
    """Among what was made or imported: by name, by repository, or by the checkpoint it is from."""
    known = [r for r in records.load().records.values() if Path(r.path).is_file()]
    return _best([(r.path, r.type) for r in known if _is_meant(reference, r)], reference)


def _is_meant(reference: Reference, record: records.Record) -> bool:
    if reference.type and record.type != reference.type:
        return False
    if reference.revision and not record.revision.startswith(reference.revision):
        return False
    if reference.kind == "name":
        return record.name.lower() == reference.name.lower()
    same_file = not reference.file or record.file.lower() == reference.file.lower()
    return record.repo.lower() == reference.name.lower() and same_file


def _best(found: list[tuple[str, str]], reference: Reference) -> Path | None:
    """Of files and their types: the best by type, the first of several alike."""
    from ..variants import Variant, quality

    if not found:
        return None
    sizes = {path: Path(path).stat().st_size for path, _ in found}
    choices = [Variant(type_, (path,), sizes[path]) for path, type_ in found]
    return Path(max(choices, key=quality).files[0])


def _of_catalogue(reference: Reference) -> Path | None:
    """A model of the catalogue: its converted file, or what lies in any of its repositories."""
    from .. import catalogue

    if reference.kind != "name" or (model := catalogue.find(reference.name)) is None:
        return None
    own_name = _recorded(replace(reference, name=model.name))
    if own_name is not None:
        return own_name
    in_repos = (_in_repo(reference, name) for name in model.repos())
    return next((path for path in in_repos if path is not None), None)


def _in_repo(reference: Reference, name: str) -> Path | None:
    there = replace(reference, kind="repo", name=name)
    return _recorded(there) or _cached(there)


def _cached(reference: Reference) -> Path | None:
    """A whole file in the Hugging Face cache; of several types the best that is there."""
    from ..variants import matching, quality, variants

    if reference.kind != "repo":
        return None
    files = cache.repo(spelled(reference.name)).files(reference.revision)
    found = matching(reference, variants({n: p.stat().st_size for n, p in files.items()}))
    return files[max(found, key=quality).files[0]] if found else None


def spelled(name: str) -> str:
    """The repository's name as the cache or the catalogue writes it, whatever the case typed."""
    from .. import catalogue

    if cache.repo(name).folder.is_dir():
        return name
    model = catalogue.of_repo(name)
    known = (*(repo.name for repo in cache.repos()), *(model.repos() if model else ()))
    return next((repo for repo in known if repo.lower() == name.lower()), name)


def _not_here(reference: Reference) -> ModelNotFound:
    if reference.kind == "name" and not _is_known(reference.name):
        names = list(_near(reference.name))
        en = f"did you mean {', '.join(names)}? " if names else ""
        ko = f"혹시 {', '.join(names)}? " if names else ""
        return ModelNotFound(
            f"There is no model called {reference.name!r}; {en}`komt-local list --all` shows the "
            "names, and org/repo names any repository of the Hugging Face Hub.",
            f"{reference.name!r}(이)라는 모델은 없습니다. {ko}`komt-local list --all`이 이름들을 "
            "보여 주고, org/repo로 허깅 페이스 허브의 어떤 저장소든 부를 수 있습니다.",
        )
    return ModelNotFound(
        f"{reference} is not on this machine; bring it here with `komt-local pull {reference}`.",
        f"{reference} 모델이 이 컴퓨터에 없습니다. `komt-local pull {reference}`(으)로 받으세요.",
    )


def _is_known(name: str) -> bool:
    from .. import catalogue

    return catalogue.find(name) is not None


def _near(name: str) -> Iterator[str]:
    from difflib import get_close_matches

    from .. import catalogue

    state = records.load()
    own = [*state.aliases, *(record.name for record in state.records.values())]
    yield from get_close_matches(name, own, n=2)
    yield from catalogue.near(name)


def _is_folder(path: Path) -> ModelNotFound:
    return ModelNotFound(
        f"{str(path)!r} is a folder; convert the checkpoint in it first: "
        f"komt-local convert {path} -o model.gguf -q Q4_K_M",
        f"{str(path)!r}은(는) 폴더입니다. 그 안의 체크포인트를 먼저 변환하세요: "
        f"komt-local convert {path} -o model.gguf -q Q4_K_M",
    )
