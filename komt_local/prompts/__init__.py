"""From messages to token ids, in the form that a model was trained on.

    messages ── render (a template, in jinja2's sandbox) ──> segments ── encode ──> token ids

`templates` is the table of prompt conventions, `jinja` renders one without losing sight of who
wrote what, `segments` turns the result into ids in which nothing that a user typed is a control
token. None of it runs a model or reads a file.
"""

from __future__ import annotations

from .jinja import render
from .segments import Segment, Vocabulary, encode
from .templates import PRESETS, Template, choose

__all__ = ["PRESETS", "Segment", "Template", "Vocabulary", "choose", "encode", "render"]
