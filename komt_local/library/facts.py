"""What a model file says about itself, read from its header within bounds; nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InvalidModel
from ..variants import other_parts, type_of

if TYPE_CHECKING:
    from komt_convert.gguf_file import Header


@dataclass(frozen=True, slots=True)
class Facts:
    """What a GGUF file says about itself; texts are empty where it says nothing.

    `identity` are the texts under `general.…`, by which the catalogue may know the model.
    """

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
    identity: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON has them."""
        plain = {name: value for name, value in asdict(self).items() if name != "identity"}
        return plain | {"path": str(self.path)}


def type_known(path: Path, facts: Facts | None) -> str:
    """The file's type as its header says, else its name; empty where neither does."""
    said = facts.file_type if facts else ""
    return said if said and said != "unknown" else type_of(path.name)


def describe(path: Path) -> Facts:
    """What the header of a GGUF file says. Raises InvalidModel for a file that is none."""
    return facts_of(read_header(path))


def read_header(path: Path) -> Header:
    """The header itself, with all metadata. Raises InvalidModel for a file that is no GGUF.

    Of a model that is split over several files, it has the tensors and the size of all of them
    that are here.
    """
    from komt_convert.errors import GGUFError
    from komt_convert.gguf_file import check, read_header

    try:
        header = check(path)
        others = [read_header(part) for part in other_parts(path) if part.is_file()]
    except GGUFError as error:
        raise InvalidModel(str(error), error.ko) from error
    tensors = (*header.tensors, *(tensor for part in others for tensor in part.tensors))
    size = header.size + sum(part.size for part in others)
    return replace(header, tensors=tensors, size=size)


def facts_of(header: Header) -> Facts:
    """What of a header a user wants to know."""
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
        identity={key: text(key) for key in header.metadata if key.startswith("general.")},
    )
