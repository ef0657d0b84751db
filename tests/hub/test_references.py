"""The grammar of model names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komt_local.errors import BadReference
from komt_local.references import Reference, is_name, is_safe_file, parse

REPO = "davidkim205/komt-mistral-7b-v1-gguf"
FILE = "ggml-model-q4_1.gguf"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./a", Reference("path", "./a")),
        ("a.gguf", Reference("path", "a.gguf")),
        ("models/a.GGUF", Reference("path", "models/a.GGUF")),
        ("~/x/y/z.gguf", Reference("path", "~/x/y/z.gguf")),
        ("/tmp/x", Reference("path", "/tmp/x")),
        ("C:\\models\\a", Reference("path", "C:\\models\\a")),
        ("eeve", Reference("name", "eeve")),
        ("한글모델", Reference("name", "한글모델")),
        ("eeve:q5_k_m", Reference("name", "eeve", "Q5_K_M")),
        ("eeve:latest", Reference("name", "eeve")),
        ("eeve@v1.0:Q8_0", Reference("name", "eeve", "Q8_0", revision="v1.0")),
        (REPO, Reference("repo", REPO)),
        (f"{REPO}:q4_1", Reference("repo", REPO, "Q4_1")),
        (f"{REPO}/{FILE}", Reference("repo", REPO, file=FILE)),
        (f"{REPO}/a/b/{FILE}@main", Reference("repo", REPO, file=f"a/b/{FILE}")),
        (f"{REPO}@refs/pr/3/{FILE}", Reference("repo", REPO, file=FILE, revision="refs/pr/3")),
        (f"{REPO}@feature/x", Reference("repo", REPO, revision="feature/x")),
        (f"hf.co/{REPO}:Q4_1", Reference("repo", REPO, "Q4_1")),
        (f"huggingface.co/{REPO}", Reference("repo", REPO)),
        (f"hf://{REPO}@v1/{FILE}", Reference("repo", REPO, file=FILE, revision="v1")),
        (f"hf://models/{REPO}", Reference("repo", REPO)),
        (f"https://huggingface.co/{REPO}", Reference("repo", REPO)),
        (f"https://hf.co/{REPO}/tree/main", Reference("repo", REPO)),
        (f"https://huggingface.co/{REPO}/tree/v1", Reference("repo", REPO, revision="v1")),
        (
            f"https://huggingface.co/{REPO}/resolve/main/a%20b.gguf?download=true",
            Reference("repo", REPO, file="a b.gguf"),
        ),
        (
            f"https://huggingface.co/{REPO}/blob/refs%2Fpr%2F1/{FILE}",
            Reference("repo", REPO, file=FILE, revision="refs/pr/1"),
        ),
    ],
)
def test_what_names_what(text: str, expected: Reference) -> None:
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a/b/c",
        "org/repo/file.txt",
        "org/repo/../x.gguf",
        "org/repo/a//x.gguf",
        "org/..",
        "org/.repo",
        "org/re--po",
        "-org/repo",
        "org/repo@",
        "org/repo:",
        "org/repo@a@b",
        "org/repo@../x",
        "org/repo@a b",
        "org/repo:Q4_0@v1:Q8_0",
        "org/repo\n",
        "name\u200bless",
        "hf.co/datasets/org/data",
        "https://huggingface.co/datasets/org/data",
        "https://huggingface.co/org/repo/blob/main/config.json",
        "https://example.org/org/repo",
        "https://huggingface.co.evil.org/org/repo",
        "ftp://huggingface.co/org/repo",
        "http://[::1/org/repo",
        "x" * 5000,
    ],
)
def test_what_names_nothing(text: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse(text)
    assert caught.value.exit_status == 2
    assert len(str(caught.value)) < 500


def test_a_mirror_is_the_hub_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example")
    assert parse("https://mirror.example/org/repo") == Reference("repo", "org/repo")


part = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.]{0,8}[A-Za-z0-9])?", fullmatch=True).filter(
    lambda text: ".." not in text
)
types = st.sampled_from(["", "Q4_K_M", "Q8_0", "BF16", "UD-Q4_K_XL"])
revisions = st.one_of(st.just(""), part, st.builds("refs/pr/{}".format, st.integers(1, 99)))
files = st.lists(part, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".gguf")


@given(part, part, types, files, revisions, st.booleans())
def test_what_is_printed_is_parsed_to_the_same(
    org: str, name: str, type_: str, file: str, revision: str, with_file: bool
) -> None:
    revision = "" if revision == "main" else revision
    choice = {"file": file} if with_file else {"type": type_}
    reference = Reference("repo", f"{org}/{name}", revision=revision, **choice)
    if not with_file and name.lower().endswith("gguf") and not type_ and not revision:
        return  # "models/a.gguf" is a path
    assert parse(str(reference)) == reference
    if "." not in org:
        assert parse(f"hf.co/{reference}") == reference


@given(part, types, revisions)
def test_names_too(name: str, type_: str, revision: str) -> None:
    revision = "" if revision == "main" else revision
    reference = Reference("name", name, type_, revision=revision)
    if not name.lower().endswith(".gguf"):
        assert parse(str(reference)) == reference


@given(st.text())
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse(text)
    except BadReference:
        return
    if reference.kind != "path":
        assert not any(p in ("", ".", "..") for p in reference.name.split("/"))
        assert not reference.file or is_safe_file(reference.file)
        assert "\\" not in str(reference)


@given(st.text(alphabet="ab/.\\:\x00\n ", max_size=12))
def test_a_safe_name_stays_in_its_folder(name: str) -> None:
    import os.path

    if is_safe_file(name):
        joined = os.path.normpath(os.path.join("/base", name))
        assert joined == "/base/" + name
        assert "\\" not in name and name.isprintable()


@pytest.mark.parametrize(("text", "ok"), [("komt", True), ("내모델", True), ("a/b", False)])
def test_alias_names(text: str, ok: bool) -> None:
    assert is_name(text) is ok
    assert not is_name("a.gguf") and not is_name("a:b") and not is_name("") and not is_name("..")
