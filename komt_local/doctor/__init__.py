"""Why it does or does not run here: the machine measured, then judged by pure functions.

    machine = measure()        everything that is looked at, as data; llama.cpp in a child process
    checks = examine(machine)  ok, warn or fail, what was found, and the line that repairs it

Nothing here opens a connection, and nothing native is loaded into this process but NVML: an illegal
instruction cannot be caught, so what the build needs is read from its file before it runs anywhere.
"""

from __future__ import annotations

from .checks import Check, State, Text, worst
from .examining import examine
from .machine import Machine
from .measuring import measure

__all__ = ["Check", "Machine", "State", "Text", "examine", "measure", "worst"]
