"""Where a user's own prompts lie: `tasks` and `templates` in the folder for settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def config_folder() -> Path:
    """komt-local's folder for settings, where the platform has such; it need not exist."""
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home()) / "komt-local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "komt-local"
    config = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(config) if config else Path.home() / ".config") / "komt-local"


def template_folder() -> Path:
    """Where templates of one's own are: `own` reads them."""
    return config_folder() / "templates"


def task_folders() -> list[Path]:
    """The folders whose task files come before the built-in ones."""
    return [config_folder() / "tasks"]
