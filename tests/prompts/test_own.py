"""Templates of one's own: TOML files, before the presets, and named when they cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from komt_local.errors import TemplateError
from komt_local.prompts import PRESETS, choose, render
from komt_local.types import Message


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = tmp_path / "komt-local" / "templates"
    made.mkdir(parents=True)
    return made


def test_a_template_of_ones_own(folder: Path) -> None:
    (folder / "Mine.toml").write_text(
        "jinja = '''{% for m in messages %}Q: {{ m.content }}\\nA:{% endfor %}'''\n"
        'stops = ["Q:"]\nsingle_turn = true\nsampling = { temperature = 0.1 }\n',
        encoding="utf-8",
    )
    template = choose("mine", None)
    assert (template.name, template.stops, template.single_turn) == ("Mine", ("Q:",), True)
    assert template.sampling == {"temperature": 0.1}
    prompt = render(template, [Message("user", "왜?")])
    assert [(part.text, part.ours) for part in prompt] == [
        ("Q: ", True),
        ("왜?", False),
        ("\\nA:", True),
    ]
    with pytest.raises(TemplateError, match="Mine"):
        choose("mien", None)


def test_ones_own_comes_before_a_preset(folder: Path) -> None:
    (folder / "komt.toml").write_text('jinja = "{{ 1 }}"\n', encoding="utf-8")
    assert choose("komt", None).jinja == "{{ 1 }}"
    assert choose(None, PRESETS["komt"].jinja) is PRESETS["komt"]


@pytest.mark.parametrize(
    "content",
    [
        "jinja = ",
        "stops = []",
        'jinja = "x"\nstop = []',
        'jinja = "x"\nstops = [""]',
        'jinja = "x"\nsingle_turn = "yes"',
        'jinja = "x"\nname = "other"',
        "\udc80",
    ],
)
def test_a_bad_file_is_named(folder: Path, content: str) -> None:
    (folder / "mine.toml").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(TemplateError, match=r"mine\.toml"):
        choose("mine", None)
    assert choose("komt", None) is PRESETS["komt"]
