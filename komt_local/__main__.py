"""The command `komt-local`, also as `python -m komt_local`."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command line and leave with its exit status."""
    from .cli import run

    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 shows '?' for what it lacks; it is no reason to stop.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
