"""`komt-local verify`: is a model file whole, and does it say what its source says?"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import library
from ..errors import InvalidModel, UsageError
from ..language import say
from . import options
from .base import KomtCommand
from .convert import progress_bar
from .output import print_json
from .sources import bring

if TYPE_CHECKING:
    from komt_convert.proof import FileProof

    from ..library.digests import Digest


@click.command(
    cls=KomtCommand,
    help=say(
        "Read MODEL whole: its header, and its digest where one is known. With --against, repeat "
        "the proof that a conversion ends with: values and token ids are those of SOURCE.",
        "MODEL을 모두 읽어 헤더와, 알려져 있으면 다이제스트를 확인합니다. --against를 주면 변환 "
        "때의 증명을 되풀이합니다: 값과 토큰 번호가 SOURCE와 같은지.",
    ),
)
@click.argument("model", required=False)
@click.option(
    "--against",
    metavar="SOURCE",
    help=say(
        "The checkpoint or adapter that it was made from: a folder or org/repo.",
        "이 파일을 만든 체크포인트나 어댑터: 폴더나 org/repo.",
    ),
)
@click.option(
    "--lora",
    multiple=True,
    metavar="PATH",
    help=say("An adapter that was merged (repeatable).", "합친 어댑터(반복 가능)."),
)
@click.option(
    "--lora-scale",
    multiple=True,
    type=float,
    metavar="X",
    help=say("How strongly each counts (default: 1).", "어댑터마다의 세기(기본: 1)."),
)
@click.option(
    "--base",
    metavar="PATH",
    help=say("The base model, if SOURCE is an adapter.", "SOURCE가 어댑터일 때 기반 모델."),
)
@click.option(
    "--logits",
    is_flag=True,
    help=say(
        "Compare next-token distributions with transformers, too.",
        "다음 토큰 분포를 transformers와도 비교합니다.",
    ),
)
@options.threads()
@options.offline()
@options.json_output()
@options.quiet()
def command(model: str | None, against: str | None, **given: Any) -> None:
    path = library.resolve(model)
    if against is None:
        if given["logits"] or given["lora"] or given["base"]:
            raise UsageError(
                "--logits, --lora and --base go with --against SOURCE.",
                "--logits, --lora, --base는 --against SOURCE와 함께 씁니다.",
            )
        _check(path, given)
        return
    from komt_convert.proof import verify_file

    here = bring(against, given)
    with progress_bar(hidden=given["quiet"]) as progress:
        proof = verify_file(
            path,
            here.model,
            adapters=here.adapters,
            base=here.base,
            logits=given["logits"],
            threads=given["threads"],
            progress=progress,
        )
    if given["json"]:
        print_json(proof.as_dict())
    elif not given["quiet"]:
        click.echo("\n".join(_lines(proof, against)))


def _check(path: Path, given: Any) -> None:
    """The header, and the digest of the whole file."""
    from komt_convert.gguf_file import check
    from komt_convert.report import Progress

    from ..library.digests import Digest, digest_of, expected

    header = check(path)
    with progress_bar(hidden=given["quiet"]) as progress:
        actual = digest_of(path, lambda done, total: progress(Progress("verify", done, total)))
    digest = Digest(actual, expected(path) or _reported(path))
    if digest.ok is False:
        raise InvalidModel(
            f"{path} is not what it was: its SHA-256 is {digest.actual} and should be "
            f"{digest.expected}; download or convert it again.",
            f"{path} 파일이 처음과 다릅니다. SHA-256이 {digest.expected}이어야 하는데 "
            f"{digest.actual}입니다. 다시 내려받거나 변환하세요.",
        )
    if given["json"]:
        known = {"sha256": digest.actual, "expected": digest.expected or None}
        print_json({"path": str(path), "n_tensors": len(header.tensors), **known})
    elif not given["quiet"]:
        click.echo(f"{path}\n{_about(len(header.tensors), digest)}\n  sha256 {digest.actual}")


def _reported(path: Path) -> str:
    """The digest that the report of its conversion gives, if that lies beside the file."""
    try:
        report = json.loads(path.with_name(f"{path.name}.report.json").read_text("utf-8"))
        return str(report.get("sha256") or "")
    except (OSError, ValueError, AttributeError):
        return ""


def _about(n_tensors: int, digest: Digest) -> str:
    if digest.ok:
        return say(
            f"  the header and {n_tensors} tensors are sound, and the digest is the known one",
            f"  헤더와 텐서 {n_tensors}개가 온전하고 다이제스트도 알려진 것과 같음",
        )
    return say(
        f"  the header and {n_tensors} tensors are sound; no digest is known to compare with "
        "(--against SOURCE proves the rest)",
        f"  헤더와 텐서 {n_tensors}개가 온전함. 비교할 다이제스트는 알려지지 않음"
        "(--against SOURCE로 나머지를 증명)",
    )


def _lines(proof: FileProof, against: str) -> Iterator[str]:
    from komt_convert.console import largest_error

    yield str(proof.path)
    yield say(
        f"  {proof.n_tensors} tensors and {proof.tokens_compared:,} token ids agree with {against}",
        f"  텐서 {proof.n_tensors}개와 토큰 {proof.tokens_compared:,}개가 {against}와 같음",
    )
    yield from (f"  {say(*largest_error(error))}" for error in proof.errors)
    if proof.recorded:
        yield say(
            f"  {proof.recorded} source files are those of the conversion (SHA-256)",
            f"  원본 파일 {proof.recorded}개가 변환 때의 것과 같음(SHA-256)",
        )
    if proof.changed:
        names = ", ".join(proof.changed)
        yield say(f"  changed since: {names}", f"  그 뒤에 바뀐 파일: {names}")
    if (far := proof.logits) is not None:
        yield say(
            f"  KL divergence over {far.n_positions:,} predictions: mean {far.kl_mean:.2g}, 99 % "
            f"{far.kl_99:.2g}, max {far.kl_max:.2g}; same first choice {far.same_choice:.2%}",
            f"  예측 {far.n_positions:,}개의 KL 발산: 평균 {far.kl_mean:.2g}, 99% "
            f"{far.kl_99:.2g}, 최대 {far.kl_max:.2g}. 첫 선택이 같은 비율 {far.same_choice:.2%}",
        )
    yield f"  sha256 {proof.sha256}"
