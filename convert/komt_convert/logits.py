"""What a file computes beside what transformers computes from its source: next-token distributions.

The texts are those of `corpus`, as the source tokenizes them, in windows that begin with BOS where
the tokenizer adds one. transformers runs the checkpoint in float32 with the code of its own
classes: nothing that comes with the checkpoint is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from komt_convert.corpus import corpus
from komt_convert.errors import SourceError, UnsupportedError, VerificationError
from komt_convert.gguf_file import read_header
from komt_convert.llama_logits import Model
from komt_convert.sources import Source
from komt_convert.vocab import Vocabulary

WINDOW, N_WINDOWS = 256, 16

F32_MEAN, F32_MAX = 1e-6, 1e-5
"""How far a file of float32 may be: what another order of summing gives, with room."""

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Distance:
    """KL divergences in nats of the file from its source, over `n_positions` predictions.

    `same_choice` is the part of them where both find the same token most probable.
    """

    n_positions: int
    kl_mean: float
    kl_99: float
    kl_max: float
    same_choice: float


def compare_logits(path: Path, source: Source, *, plain: bool, threads: int) -> Distance:
    """The distance of the file at `path` from `source`, a checkpoint without adapters (`plain`).

    Raises SourceError when it does not fit in memory, UnsupportedError when transformers is
    missing or has no such class, and VerificationError when a float32 file is too far away.
    """
    if not plain or not source.path.is_dir():
        raise _no_reference(source.path)
    windows = list(islice(_windows(source.vocabulary), N_WINDOWS))
    refuse_small_memory(path, source)
    divergences, same = [], []
    with Model(path, WINDOW, threads) as file:
        reference = _Reference(source.path, threads)
        for ids in windows:
            one, other = log_softmax(reference.logits(ids)), log_softmax(file.logits(ids))
            divergences.append((np.exp(one) * (one - other)).sum(axis=1).clip(0))
            same.append(one.argmax(axis=1) == other.argmax(axis=1))
    distance = _distance(np.concatenate(divergences), np.concatenate(same))
    if read_header(path).metadata.get("general.file_type") == 0:
        _refuse_far(path, distance)
    return distance


def _distance(divergences: NDArray[np.float64], same: NDArray[np.bool_]) -> Distance:
    return Distance(
        n_positions=divergences.size,
        kl_mean=float(divergences.mean()),
        kl_99=float(np.quantile(divergences, 0.99)),
        kl_max=float(divergences.max()),
        same_choice=float(same.mean()),
    )


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _windows(vocabulary: Vocabulary) -> Iterator[list[int]]:
    """The corpus in parts of `WINDOW` ids; the last one is shorter."""
    bos = [vocabulary.special_ids["bos"]] if vocabulary.add_bos else []
    ids: list[int] = []
    for text in corpus():
        ids += vocabulary.encode(text)
        while len(ids) >= WINDOW:
            yield (bos + ids)[:WINDOW]
            ids = ids[WINDOW:]
    if ids:
        yield (bos + ids)[:WINDOW]


def refuse_small_memory(path: Path, source: Source) -> None:
    """Raises SourceError, with the numbers, unless source and file fit in memory together."""
    import psutil

    wanted = 4 * sum(tensor.n_elements for tensor in source.tensors) + path.stat().st_size
    free = psutil.virtual_memory().available
    if wanted > free:
        raise SourceError(
            f"Comparing logits takes {_gigabytes(wanted)} of memory and {_gigabytes(free)} are "
            f"free: {_gigabytes(wanted - free)} are missing; verify without --logits, or on a "
            "larger machine.",
            f"로짓을 비교하려면 메모리 {_gigabytes(wanted)}가 필요한데 {_gigabytes(free)}만 남아 "
            f"{_gigabytes(wanted - free)}가 모자랍니다. --logits 없이 하거나 더 큰 컴퓨터를 "
            "쓰세요.",
        )


class _Reference:
    """transformers' model of a checkpoint, in float32."""

    def __init__(self, folder: Path, threads: int) -> None:
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError:
            raise UnsupportedError(
                "Comparing logits needs torch and transformers, which are not installed; "
                "install them with: pip install 'komt-local[convert]'",
                "로짓을 비교하려면 torch와 transformers가 필요합니다. "
                "다음으로 설치하세요: pip install 'komt-local[convert]'",
            ) from None
        torch.set_num_threads(threads)
        self._torch = torch
        try:
            with _quiet():
                self._model: Any = AutoModelForCausalLM.from_pretrained(
                    folder,
                    dtype=torch.float32,
                    attn_implementation="eager",
                    local_files_only=True,
                    trust_remote_code=False,
                ).eval()
        except Exception as error:
            raise _no_class(folder, error) from None

    def logits(self, ids: list[int]) -> Logits:
        with self._torch.inference_mode():
            found: Logits = self._model(self._torch.tensor([ids])).logits[0].float().numpy()
        return found


class _quiet:
    """Keeps the progress bars and notes of transformers off the terminal."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self._logging, self._level = logging, logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        self._logging.set_verbosity(self._level)
        self._logging.enable_progress_bar()


def _refuse_far(path: Path, distance: Distance) -> None:
    if distance.kl_mean < F32_MEAN and distance.kl_max < F32_MAX:
        return
    raise VerificationError(
        f"{path} is F32 and computes something else than its source (KL divergence "
        f"{distance.kl_mean:.2g} on average, {distance.kl_max:.2g} at most); report the model, "
        "please.",
        f"{path}: F32인데 원본과 다른 것을 계산합니다(KL 발산 평균 {distance.kl_mean:.2g}, 최대 "
        f"{distance.kl_max:.2g}). 모델을 알려 주세요.",
    )


def _no_reference(path: Path) -> UnsupportedError:
    return UnsupportedError(
        f"Logits are compared with a checkpoint that transformers loads as it is, and {path} is "
        "none, or has adapters; merge them with PEFT first, or verify without --logits.",
        f"로짓은 transformers가 그대로 읽는 체크포인트와 비교합니다. {path}은(는) 아니거나 "
        "어댑터가 있습니다. PEFT로 먼저 합치거나 --logits 없이 검증하세요.",
    )


def _no_class(folder: Path, error: Exception) -> UnsupportedError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return UnsupportedError(
        f"transformers cannot load {folder} ({reason}); verify without --logits.",
        f"transformers가 {folder} 폴더를 읽지 못합니다({reason}). --logits 없이 검증하세요.",
    )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"
