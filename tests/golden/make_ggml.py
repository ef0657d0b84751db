"""Record what llama.cpp's own converter makes of the GGML files in `tests/ggml_files.py`.

    python tests/golden/make_ggml.py llama_cpp_python-0.3.36.tar.gz

The argument is that of `make.py` beside it. `convert_llama_ggml_to_gguf.py` of the source archive
writes the files, and `ggml.json` gets their metadata and the digests of their tensors.

Of the gguf package one function is replaced: it takes the shapes that the script gives, which count
values, for shapes that count bytes, so that the script fails or halves the rows.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from make import find_converter, record_metadata  # noqa: E402

from ggml_files import write_ggml  # noqa: E402

CASES = (
    "GGML-1-F32",
    "GGML-1-F16",
    "GGMF-1-F16",
    "GGJT-1-F16",
    "GGJT-2-Q5_0",
    "GGJT-2-Q5_1",
    "GGJT-3-F16",
    "GGJT-3-Q4_0",
    "GGJT-3-Q4_1",
    "GGJT-3-Q5_0",
    "GGJT-3-Q5_1",
    "GGJT-3-Q8_0",
    "GGJT-3-Q6_K",
)


RUN_CONVERTER = """
import runpy, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent / "gguf-py"))
import gguf.gguf_writer
gguf.gguf_writer.quant_shape_from_byte_shape = lambda shape, type_: shape
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def main(source: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        script = find_converter(source, work) / "convert_llama_ggml_to_gguf.py"
        golden = {case: record(script, case, work) for case in CASES}
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    (HERE / "ggml.json").write_text(text + "\n", encoding="utf-8")


def record(script: Path, case: str, work: Path) -> dict[str, Any]:
    """{"metadata": …, "tensors": {name: [type, shape, digest]}}"""
    kind, version, type_ = case.split("-")
    path = write_ggml(work / f"{case}.bin", kind, int(version), type_)
    out = path.with_suffix(".gguf")
    arguments = [str(script), "--input", str(path), "--output", str(out)]
    command = [sys.executable, "-c", RUN_CONVERTER, *arguments]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    reader = gguf.GGUFReader(out)
    tensors = {
        tensor.name: [
            tensor.tensor_type.name,
            tensor.shape.tolist()[::-1],
            hashlib.sha256(tensor.data.tobytes()).hexdigest(),
        ]
        for tensor in reader.tensors
    }
    return {"metadata": record_metadata(reader), "tensors": tensors}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
