"""`python -m komt_convert SOURCE -o OUT -q TYPE`: one call of `convert`, and what it says.

The summary goes to stdout, progress and errors to stderr. Exit status: 0 when the file is there, 1
for an error, 2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from komt_convert.console import progress_bar, speaks_korean, summary
from komt_convert.errors import ConvertError, SourceError


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a code page may lack what is printed
            stream.reconfigure(errors="replace")
    korean = speaks_korean()
    options = parser(korean).parse_args(arguments)
    try:
        return _convert(options, korean)
    except ConvertError as error:
        print(error.ko if korean else error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "중단했습니다. 파일을 남기지 않았습니다." if korean else "Stopped; no file was left.",
            file=sys.stderr,
        )
        return 130


def _convert(options: argparse.Namespace, korean: bool) -> int:
    from komt_convert.pipeline import convert

    with progress_bar(sys.stderr, korean=korean) as progress:
        report = convert(
            options.source,
            options.output,
            quant=options.type,
            adapters=options.lora,
            base=options.base,
            chat_template=_template(options.template_file),
            tensor_types=options.tensor_type,
            imatrix=options.imatrix,
            verify=not options.no_verify,
            allow_token_mismatch=options.allow_token_mismatch,
            force=options.force,
            save_report=True,
            threads=options.threads,
            progress=progress,
        )
    if options.json:
        print(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        print(summary(report, korean=korean))
        for warning in report.warnings:
            print(warning[korean], file=sys.stderr)
    return 0


def parser(korean: bool) -> argparse.ArgumentParser:
    def say(en: str, ko: str) -> str:
        return ko if korean else en

    options = argparse.ArgumentParser(
        "python -m komt_convert",
        description=say(
            "Convert a Hugging Face checkpoint to a verified GGUF file.",
            "Hugging Face 체크포인트를 검증된 GGUF 파일로 변환합니다.",
        ),
    )
    add = options.add_argument
    add("source", metavar="SOURCE", help=say("folder of the checkpoint", "체크포인트 폴더"))
    add("-o", "--output", metavar="OUT", required=True, help=say("GGUF file", "GGUF 파일"))
    add(
        "-q",
        "--type",
        default="Q4_K_M",
        help=say("quantization type (default: %(default)s)", "양자화 타입 (기본값: %(default)s)"),
    )
    add(
        "--lora",
        metavar="FOLDER",
        action="append",
        default=[],
        type=lambda folder: (folder, 1.0),
        help=say("LoRA adapter to merge; may be repeated", "합칠 LoRA 어댑터. 여러 번 쓸 수 있음"),
    )
    add(
        "--lora-scale",
        metavar="X",
        action=_ScaleLast,
        type=float,
        help=say("strength of the adapter before it", "바로 앞 어댑터의 세기"),
    )
    add("--base", metavar="FOLDER", help=say("if SOURCE is an adapter", "SOURCE가 어댑터일 때"))
    add(
        "--template-file",
        metavar="FILE",
        type=Path,
        help=say("Jinja chat template for the file", "파일에 넣을 Jinja 대화 템플릿"),
    )
    add(
        "--tensor-type",
        metavar="PATTERN=TYPE",
        action="append",
        default=[],
        help=say("type of tensors with PATTERN in their names", "이름에 PATTERN이 든 텐서의 타입"),
    )
    add(
        "--imatrix",
        metavar="FILE",
        help=say("importance matrix of llama-imatrix", "llama-imatrix로 만든 중요도 행렬"),
    )
    add("--no-verify", action="store_true", help=say("skip the proof", "검증을 건너뜀"))
    add(
        "--allow-token-mismatch",
        action="store_true",
        help=say("go on where token ids differ", "토큰 번호가 달라도 계속함"),
    )
    add("--force", action="store_true", help=say("replace OUT", "OUT을 덮어씀"))
    add("-t", "--threads", type=_positive, help=say("default: all", "기본값: 모두"))
    add("--json", action="store_true", help=say("summary as JSON", "요약을 JSON으로"))
    return options


class _ScaleLast(argparse.Action):
    """Changes the strength of the last --lora."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        if not namespace.lora:
            parser.error("--lora-scale comes after the --lora that it is for")
        namespace.lora[-1] = (namespace.lora[-1][0], values)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _template(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise SourceError(
            f"{path} is not a readable text file; give the path of a Jinja template.",
            f"{path} 파일을 글로 읽을 수 없습니다. Jinja 템플릿 파일의 경로를 지정하세요.",
        ) from None


if __name__ == "__main__":
    sys.exit(main())
