"""Record what llama.cpp's own tools make of the tiny checkpoints in `tests/checkpoints.py`.

    python tests/golden/make.py llama_cpp_python-0.3.36.tar.gz [NAME...]

The argument is the source archive of llama-cpp-python, or the folder that it was unpacked to: its
vendor/llama.cpp/convert_hf_to_gguf.py, with the gguf package beside it, writes F32, F16, BF16 and
Q8_0; `llama_model_quantize` of the installed llama-cpp-python makes the other types from the F32
file. Needs torch and transformers, as that converter does. For each checkpoint a JSON file is
written beside this script: metadata, and names, shapes, types and digests of all tensors. The tests
compare with these files alone.

Of the converter two things are replaced. It knows pre-tokenizers by the digest of what a tokenizer
does to one text, and an excerpt of GPT-2's vocabulary has another digest than the whole. And it
reads `rotary_pct` of GPT-NeoX, which transformers 5 keeps under another name.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import gguf
import llama_cpp

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from checkpoints import GOLDEN, write_golden_checkpoint  # noqa: E402

CONVERTED = ("F32", "F16", "BF16", "Q8_0")
QUANTIZED = {"Q4_0": 2, "Q6_K": 18, "Q4_K_M": 15, "Q5_K_M": 17}
"""The number of each type in `enum llama_ftype`."""

RUN_CONVERTER = """
import runpy, sys
sys.path.insert(0, sys.argv[1])
from conversion.base import ModelBase, TextModel
TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
load = ModelBase.load_hparams
def load_hparams(*arguments, **options):
    found = load(*arguments, **options)
    if "GPTNeoXForCausalLM" in found["architectures"]:
        found["rotary_pct"] = found["rope_parameters"]["partial_rotary_factor"]
    return found
ModelBase.load_hparams = staticmethod(load_hparams)
del sys.argv[0]
runpy.run_path(sys.argv[0] + "/convert_hf_to_gguf.py", run_name="__main__")
"""


def main(source: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        converter = find_converter(source, work)
        for name in names or GOLDEN:
            checkpoint = write_golden_checkpoint(work, name)
            golden = record_checkpoint(converter, checkpoint, work)
            text = json.dumps(golden, ensure_ascii=False, indent=1)
            (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")
            print(name, len(golden["tensors"]), "tensors")


def find_converter(source: Path, work: Path) -> Path:
    """The folder vendor/llama.cpp of the source, unpacked first if need be."""
    if source.is_file():
        with tarfile.open(source) as archive:
            archive.extractall(work / "source", filter="data")
        source = work / "source"
    found = next(source.glob("**/vendor/llama.cpp/convert_hf_to_gguf.py"), None)
    if found is None:
        raise SystemExit(f"{source} is not the source of llama-cpp-python")
    return found.parent


def record_checkpoint(converter: Path, checkpoint: Path, work: Path) -> dict[str, Any]:
    """{"metadata": of the F16 file, "tensors": {name: {"shape", type name: [type, digest]}}}"""
    files = {type_: work / f"{checkpoint.name}-{type_}.gguf" for type_ in (*CONVERTED, *QUANTIZED)}
    for type_ in CONVERTED:
        convert(converter, checkpoint, files[type_], type_.lower())
    for type_, number in QUANTIZED.items():
        quantize(files["F32"], files[type_], number)
    tensors: dict[str, dict[str, Any]] = {}
    for type_, file in files.items():
        for tensor in gguf.GGUFReader(file).tensors:
            entry = tensors.setdefault(tensor.name, {"shape": tensor.shape.tolist()[::-1]})
            digest = hashlib.sha256(tensor.data.tobytes()).hexdigest()
            entry[type_] = [tensor.tensor_type.name, digest]
    metadata = record_metadata(gguf.GGUFReader(files["F16"]))
    for file in files.values():
        file.unlink()
    return {"metadata": metadata, "tensors": tensors}


def convert(converter: Path, checkpoint: Path, out: Path, type_: str) -> None:
    arguments = [str(converter), str(checkpoint), "--outfile", str(out), "--outtype", type_]
    command = [sys.executable, "-c", RUN_CONVERTER, *arguments]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def quantize(source: Path, out: Path, number: int) -> None:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = number, 2
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), parameters):
        raise SystemExit(f"llama_model_quantize failed for {out.name}")


@llama_cpp.llama_log_callback
def QUIET(level: int, text: bytes, data: object) -> None:
    pass


def record_metadata(reader: gguf.GGUFReader) -> dict[str, Any]:
    """Each key with [type, value]; of an array, [element type, length, digest of its JSON]."""
    found = {}
    for name, field in sorted(reader.fields.items()):
        if name.startswith("GGUF."):
            continue
        value = field.contents()
        if isinstance(value, list):
            digest = hashlib.sha256(json.dumps(value).encode()).hexdigest()
            found[name] = [field.types[-1].name, len(value), digest]
        else:
            found[name] = [field.types[0].name, value]
    return found


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
