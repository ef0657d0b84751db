"""llama.cpp's own server as a contender: its program started on a file, its HTTP interface used.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Server:
    """`llama-server` with so many slots of so many tokens each, until it is closed.

    What it says of itself goes to `log`.
    """

    def __init__(
        self, program: Path, model: Path, log: Path, *, n_slots: int, n_ctx: int, threads: int
    ) -> None:
        self._port = free_port()
        command = [str(program), "-m", str(model), "--host", "127.0.0.1", "--port", self._port]
        command += ["-np", n_slots, "-c", n_slots * n_ctx, "-t", threads, "-tb", threads]
        command += ["-fa", "auto", "-fit", "off", "--offline", "--no-webui"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command], stdout=output, stderr=output
            )
        self._await(log)

    def _await(self, log: Path) -> None:
        while self._process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.2)
        raise SystemExit(f"llama-server did not start:\n{log.read_text(errors='replace')[-2000:]}")

    def stream(self, prompt: Sequence[int], n_tokens: int) -> Iterator[dict[str, Any]]:
        """One event per token of an answer of that length; the last has the `timings`."""
        body = {
            "prompt": list(prompt),
            "n_predict": n_tokens,
            "stream": True,
            "cache_prompt": True,
            "ignore_eos": True,
            "samplers": ["top_k", "temperature"],
            "top_k": 40,
            "temperature": 0.8,
            "seed": 1,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=3600)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/completion", json.dumps(body), headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"llama-server refused: {answer.read().decode()}")
            for line in answer:
                if line.startswith(b"data: {"):
                    yield json.loads(line.removeprefix(b"data: "))
        finally:
            connection.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
