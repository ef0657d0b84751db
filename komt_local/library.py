"""Which models are here, and where: from what a user calls a model to a file on this machine.

It knows paths, the embedded model, and what the header of a file says. It loads no model and opens
no socket.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import InvalidModel, ModelNotFound

if TYPE_CHECKING:
    from komt_convert.gguf_file import Header

EMBEDDED_NAME = "komt-local-demo"
_EMBEDDED_PATH = Path(__file__).parent / "demo" / "komt-local-demo-Q8_0.gguf"


def embedded() -> Path:
    """The model that comes with the program: it knows komt-local, and nothing else."""
    return _EMBEDDED_PATH


def resolve(reference: str | Path | None = None) -> Path:
    """The GGUF file that `reference` names; without one, the embedded model.

    Raises ModelNotFound, with what to do instead, when there is no such file.
    """
    if reference is None or str(reference) == EMBEDDED_NAME:
        return embedded()
    path = Path(reference).expanduser()
    if path.is_dir():
        raise _is_folder(path)
    if not path.is_file():
        raise ModelNotFound(
            f"There is no model file {str(path)!r}; give the path of a GGUF file, "
            "or make one with `komt-local convert`.",
            f"모델 파일 {str(path)!r}이(가) 없습니다. GGUF 파일의 경로를 주거나 "
            "`komt-local convert`로 만드세요.",
        )
    return path


def _is_folder(path: Path) -> ModelNotFound:
    return ModelNotFound(
        f"{str(path)!r} is a folder; convert the checkpoint in it first: "
        f"komt-local convert {path} -o model.gguf -q Q4_K_M",
        f"{str(path)!r}은(는) 폴더입니다. 그 안의 체크포인트를 먼저 변환하세요: "
        f"komt-local convert {path} -o model.gguf -q Q4_K_M",
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """What a GGUF file says about itself; texts are empty where it says nothing."""

    path: Path
    name: str
    architecture: str
    n_parameters: int
    file_type: str
    size_bytes: int
    n_ctx_train: int
    tokenizer: str
    n_tokens: int
    author: str
    licence: str
    source: str
    chat_template: str | None
    bos: str
    eos: str

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON has them."""
        return asdict(self) | {"path": str(self.path)}


def describe(path: Path) -> Facts:
    """What the header of a GGUF file says. Raises InvalidModel for a file that is none."""
    from komt_convert.errors import GGUFError
    from komt_convert.gguf_file import check

    try:
        return _facts(check(path))
    except GGUFError as error:
        raise InvalidModel(str(error), error.ko) from error


def _facts(header: Header) -> Facts:
    from komt_convert.recipes import file_type_name

    def text(key: str) -> str:
        value = header.metadata.get(key, "")
        return value if isinstance(value, str) else ""

    tokens = header.metadata.get("tokenizer.ggml.tokens", ())

    def token(which: str) -> str:
        number = header.metadata.get(f"tokenizer.ggml.{which}_token_id")
        known = isinstance(number, int) and 0 <= number < len(tokens)
        return str(tokens[number]) if known else ""

    return Facts(
        path=header.path,
        name=text("general.name") or header.path.stem,
        architecture=header.architecture,
        n_parameters=header.n_parameters,
        file_type=file_type_name(header.metadata.get("general.file_type")),
        size_bytes=header.size,
        n_ctx_train=int(header.of_architecture("context_length", 0)),
        tokenizer=text("tokenizer.ggml.model"),
        n_tokens=len(tokens),
        author=text("general.author") or text("general.organization"),
        licence=text("general.license"),
        source=text("general.source.url") or text("general.repo_url"),
        chat_template=text("tokenizer.chat_template") or None,
        bos=token("bos"),
        eos=token("eos"),
    )
