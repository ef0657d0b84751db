"""From messages to token ids, in the form that a model was trained on.

    messages ── render (a template, in jinja2's sandbox) ──> segments ── encode ──> token ids

`presets` is the table of prompt conventions (each a `template`, written by `turns`), `choose` picks
one, `jinja` renders it without losing sight of who wrote what, `segments` turns the result into
ids in which nothing that a user typed is a control token. None of it runs a model;
`own` and `tasks` read files of the user's.
"""

from __future__ import annotations

from .choose import choose
from .jinja import render
from .presets import PRESETS
from .segments import Segment, Vocabulary, encode
from .template import Template

__all__ = ["PRESETS", "Segment", "Template", "Vocabulary", "choose", "encode", "render"]
