"""Which files of a folder hold the weights, and whether they are all there.

The order is that of transformers: safetensors before pickles, one file before shards with an index;
shards whose index is lost are found by their names. What is inside a file is the business of
`tensors` and `pickled`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from komt_convert.errors import SourceError
from komt_convert.json_file import read_json
from komt_convert.pickled import read_pickled
from komt_convert.tensors import Tensor, read_safetensors

Reader = Callable[[Path], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Weights:
    """The files with the weights; `names` are those of the index, if there is one."""

    files: tuple[Path, ...]
    read: Reader
    index: Path | None = None
    names: frozenset[str] = frozenset()

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)


def find_weights(
    folder: Path, safe: str = "model", pickled: str = "pytorch_model"
) -> Weights | None:
    """The files that transformers would load from `folder`; None when there are none.

    `safe` and `pickled` are how the names of safetensors and of pickles begin. Raises SourceError
    when shards are missing or the index makes no sense.
    """
    return _find(folder, safe, "safetensors", read_safetensors) or _find(
        folder, pickled, "bin", read_pickled
    )


def read_weights(weights: Weights) -> dict[str, Tensor]:
    """The tensors of all files by name, which must be those of the index."""
    tensors: dict[str, Tensor] = {}
    for file in weights.files:
        found = weights.read(file)
        if twice := sorted(found.keys() & tensors.keys()):
            raise SourceError(
                f"{file} holds {_some(twice)} again, which another weight file holds already; "
                "download the checkpoint again into an empty folder.",
                f"{file} 파일의 {_some(twice)} 텐서가 다른 파일에도 있습니다. "
                "빈 폴더에 체크포인트를 다시 내려받으세요.",
            )
        tensors |= found
    if weights.index is not None:
        _compare_with_index(weights.index, weights.names, tensors)
    return tensors


def _find(folder: Path, stem: str, ending: str, read: Reader) -> Weights | None:
    single, index = folder / f"{stem}.{ending}", folder / f"{stem}.{ending}.index.json"
    if single.is_file():
        return Weights((single,), read)
    weight_map = _weight_map(index)
    files = set(weight_map.values()) or _shards_without_index(folder, stem, ending)
    if not files:
        return None
    missing = sorted(name for name in files if not (folder / name).is_file())
    if missing:
        raise SourceError(
            f"{folder} lacks {_some(missing)} of its {len(files)} weight files; "
            "download the checkpoint again.",
            f"{folder} 폴더에 가중치 파일 {len(files)}개 중 {_some(missing)}이(가) 없습니다. "
            "체크포인트를 다시 내려받으세요.",
        )
    paths = tuple(folder / name for name in sorted(files))
    return Weights(paths, read, index if weight_map else None, frozenset(weight_map))


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name → file name; {} without an index."""
    weight_map = read_json(index).get("weight_map", {})
    is_map = isinstance(weight_map, dict) and all(map(_is_file_name, weight_map.values()))
    if not is_map or (index.is_file() and not weight_map):
        raise SourceError(
            f"{index} does not say which file holds which tensor; download it again.",
            f"{index} 파일에 텐서별 파일 이름이 없습니다. 다시 내려받으세요.",
        )
    return dict(weight_map)


def _is_file_name(name: object) -> bool:
    """Whether it can be the name of a file in the folder of the index, and of nothing elsewhere."""
    return isinstance(name, str) and 0 < len(name) < 128 and Path(name).name == name


def _shards_without_index(folder: Path, stem: str, ending: str) -> set[str]:
    """Names like model-00001-of-00003.safetensors tell how many there are."""
    pattern = re.compile(rf"({stem}-)(\d{{5}})(-of-(\d{{5}})\.{ending})")
    found = [match for file in folder.iterdir() if (match := pattern.fullmatch(file.name))]
    return {f"{m[1]}{number:05}{m[3]}" for m in found for number in range(1, int(m[4]) + 1)}


def _compare_with_index(index: Path, named: frozenset[str], tensors: Mapping[str, Tensor]) -> None:
    folder = index.parent
    if missing := sorted(named - tensors.keys()):
        raise SourceError(
            f"The weight files in {folder} lack {_some(missing)}, which {index.name} names; "
            "download the checkpoint again.",
            f"{folder} 가중치 파일에 {index.name} 목록의 {_some(missing)} 텐서가 없습니다. "
            "체크포인트를 다시 내려받으세요.",
        )
    if extra := sorted(tensors.keys() - named):
        raise SourceError(
            f"The weight files in {folder} hold {_some(extra)}, which {index.name} does not name; "
            "download the checkpoint again.",
            f"{folder} 가중치 파일의 {_some(extra)} 텐서가 {index.name} 목록에 없습니다. "
            "체크포인트를 다시 내려받으세요.",
        )


def _some(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    shown = ", ".join(map(repr, names[:3]))
    return shown if len(names) <= 3 else f"{shown} (+{len(names) - 3:,})"
