"""list, rm, import, alias and default: what is here, under which names."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from komt_local import library
from komt_local.cli import run
from komt_local.errors import (
    InvalidModel,
    KomtError,
    LibraryError,
    ModelNotFound,
    UsageError,
)
from komt_local.library import cache, digests, records
from komt_local.library import find as find_module
from komt_local.library.contents import contents
from komt_local.library.records import Record
from komt_local.library.stores import find

COMMIT = "a" * 40
OTHER = "b" * 40
REPO = "org/Tiny-GGUF"

Json = Callable[..., Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setenv("KOMT_LOCAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "home"


@pytest.fixture
def as_json(capsys: pytest.CaptureFixture[str]) -> Json:
    def call(*arguments: str) -> Any:
        assert run([*arguments, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return call


@pytest.fixture
def error(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def call(*arguments: str) -> str:
        assert run(arguments) in (1, 2)
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("Error: ") and err.count("\n") == 1
        return err

    return call


def into_cache(source: Path, name: str, *, repo: str = REPO, commit: str = COMMIT) -> Path:
    """As huggingface_hub lays it out: a blob by digest, and a link in a snapshot."""
    folder = cache.repo(repo).folder
    digest = digests.digest_of(source)
    blob, link = folder / "blobs" / digest, folder / "snapshots" / commit / name
    for path in (blob, link, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not blob.exists():
        shutil.copy(source, blob)
    link.symlink_to(Path("../" * (len(link.relative_to(folder).parts) - 1)) / "blobs" / digest)
    (folder / "refs" / "main").write_text(commit)
    return link


# --- list ----------------------------------------------------------------------------------------


def test_list_names_everything_once(tiny_gguf: Path, as_json: Json) -> None:
    in_cache = into_cache(tiny_gguf, "tiny-F16.gguf")
    into_cache(tiny_gguf, "other/tiny-F16.gguf", repo="org/twice")
    into_cache(tiny_gguf, "tiny-F16.gguf", repo="org/twice")
    as_json("import", str(tiny_gguf), "--name", "mine")
    as_json("alias", "short", f"{REPO}:f16")
    as_json("default", "short")
    listed = {entry["name"]: entry for entry in as_json("list")}
    assert set(listed) - {"komt-local-demo"} == {
        "mine",
        f"{REPO}:F16",
        "org/twice/other/tiny-F16.gguf",
        "org/twice/tiny-F16.gguf",
    }
    entry = listed[f"{REPO}:F16"]
    assert entry["path"] == str(in_cache)
    assert (entry["type"], entry["size"]) == ("F16", tiny_gguf.stat().st_size)
    assert (entry["template"], entry["aliases"], entry["is_default"]) == ("komt", ["short"], True)
    assert all(library.resolve(name).is_file() for name in listed if name != "komt-local-demo")


def test_list_prints_a_table(tiny_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into_cache(tiny_gguf, "tiny-F16.gguf")
    library.touch(library.resolve(REPO))
    assert run(["list"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "NAME"
    (row,) = (row for row in rows if row.startswith(REPO))
    columns = row.split()
    assert columns[:2] == [f"{REPO}:F16", "F16"] and columns[4] == "komt"
    assert columns[5] == records.now()[:10]
    assert run(["list", "--quiet"]) == 0
    assert f"{REPO}:F16" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("has_embedded", [True, False])
def test_an_empty_list_says_what_to_do(
    has_embedded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if not has_embedded:
        monkeypatch.setattr(find_module, "_EMBEDDED_PATH", tmp_path / "none")
    assert run(["list"]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == (2 if has_embedded else 0)
    assert all(command in err for command in ("komt-local pull komt-", "list --all", "import"))
    assert run(["list", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("komt-local-demo\n" if has_embedded else "", "")


def test_a_list_with_a_model_says_nothing_more(
    tiny_gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into_cache(tiny_gguf, "tiny-F16.gguf")
    assert run(["list"]) == 0
    assert capsys.readouterr().err == ""


def test_a_file_without_a_template_has_that_of_the_catalogue(tiny_gguf: Path) -> None:
    komt = into_cache(tiny_gguf, "q4_1.gguf", repo="davidkim205/komt-mistral-7b-v1-gguf")
    other = into_cache(tiny_gguf, "tiny.gguf")
    assert library.template_for(komt) == "komt-mistral"
    assert library.template_for(other) is None
    assert library.template_for(tiny_gguf) is None


def test_a_damaged_file_is_listed_as_such(tmp_path: Path, as_json: Json) -> None:
    broken = tmp_path / "broken-Q4_0.gguf"
    broken.write_bytes(b"not a model")
    path = into_cache(broken, "broken-Q4_0.gguf")
    (entry,) = (entry for entry in as_json("list") if entry["path"] == str(path))
    assert (entry["problem"], entry["type"], entry["template"]) == ("invalid", "Q4_0", None)


def test_list_all_shows_the_catalogue(capsys: pytest.CaptureFixture[str], as_json: Json) -> None:
    known = as_json("list", "--all")
    komt = next(model for model in known if model["name"] == "komt-mistral-7b-v1")
    assert komt["memory_bytes"]["Q4_K_M"] < komt["memory_bytes"]["F16"]
    assert run(["list", "--all"]) == 0
    shown = capsys.readouterr().out
    assert all(model["name"] in shown for model in known)
    assert "exaone-1.1-nc: research only" in shown


# --- resolve -------------------------------------------------------------------------------------


def test_an_existing_path_comes_first(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into_cache(tiny_gguf, "tiny-F16.gguf")
    monkeypatch.chdir(tmp_path)
    Path("org").mkdir()
    assert library.resolve(REPO).is_symlink()
    Path(REPO).write_bytes(b"")
    assert library.resolve(REPO) == Path(REPO)


@pytest.mark.parametrize(
    "text", [REPO, REPO.lower(), f"hf.co/{REPO}", f"{REPO}:f16", f"{REPO}/TINY-f16.gguf", "eeve"]
)
def test_the_cache_is_searched(tiny_gguf: Path, text: str) -> None:
    path = into_cache(tiny_gguf, "tiny-F16.gguf")
    eeve = into_cache(
        tiny_gguf, "ggml-model-Q4_K_M.gguf", repo="heegyu/EEVE-Korean-Instruct-10.8B-v1.0-GGUF"
    )
    assert library.resolve(text) == (eeve if text == "eeve" else path)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("org/none:q4_0", "komt-local pull org/none:Q4_0"),
        ("eeve", "komt-local pull eeve"),
        ("eve", "did you mean eeve"),
        (f"{REPO}:Q8_0", f"komt-local pull {REPO}:Q8_0"),
        (f"{REPO}@v1", f"komt-local pull {REPO}@v1"),
        ("missing.gguf", "komt-local convert"),
        ("~nobody-of-that-name/x.gguf", "komt-local convert"),
        ("x" * 300 + ".gguf", "komt-local convert"),
        (".", "convert the checkpoint in it first"),
    ],
)
def test_what_is_not_here_is_said_with_what_to_do(tiny_gguf: Path, text: str, remedy: str) -> None:
    into_cache(tiny_gguf, "tiny-F16.gguf")
    with pytest.raises(ModelNotFound) as caught:
        library.resolve(text)
    assert remedy in str(caught.value)


def test_an_older_snapshot_still_counts(tiny_gguf: Path) -> None:
    old = into_cache(tiny_gguf, "tiny-F16.gguf", commit=COMMIT)
    (cache.repo(REPO).folder / "snapshots" / OTHER).mkdir()
    (cache.repo(REPO).folder / "refs" / "main").write_text(OTHER)
    assert library.resolve(REPO) == old
    assert library.resolve(f"{REPO}@{COMMIT}") == old
    with pytest.raises(ModelNotFound):
        library.resolve(f"{REPO}@{OTHER}")


def test_half_of_a_split_is_no_model(tiny_gguf: Path) -> None:
    into_cache(tiny_gguf, "m-F16-00001-of-00002.gguf")
    with pytest.raises(ModelNotFound):
        library.resolve(REPO)
    second = tiny_gguf.parent / "second"
    second.write_bytes(b"2")
    into_cache(second, "m-F16-00002-of-00002.gguf")
    assert library.resolve(REPO).name == "m-F16-00001-of-00002.gguf"


# --- alias, default ------------------------------------------------------------------------------


def test_aliases_lead_to_their_target(
    tiny_gguf: Path, as_json: Json, error: Callable[..., str]
) -> None:
    path = into_cache(tiny_gguf, "tiny-F16.gguf")
    assert as_json("alias", "내모델", REPO) == {"내모델": REPO}
    as_json("alias", "again", "내모델")
    as_json("alias", "file", str(tiny_gguf))
    assert library.resolve("내모델") == library.resolve("again:f16") == path
    assert library.resolve("file") == tiny_gguf
    assert "pull org/Tiny-GGUF:Q2_K" in error("show", "again:q2_k")
    as_json("alias", "file", "--delete")
    assert "no alias 'file'" in error("alias", "file", "--delete")
    assert "one word" in error("alias", "a/b", REPO)
    assert "needs a name" in error("alias", "name")


def test_aliases_in_a_circle_are_said(error: Callable[..., str]) -> None:
    with records.editing() as state:
        state.aliases = {"a": "b", "b": "a"}
    assert "leads back to itself" in error("show", "a")


def test_the_default_is_taken_when_nothing_is_named(
    tiny_gguf: Path, as_json: Json, error: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert as_json("default") == {"default": "komt-local-demo"}
    assert library.resolve() == library.embedded()
    monkeypatch.chdir(tiny_gguf.parent)
    assert as_json("default", tiny_gguf.name) == {"default": str(tiny_gguf)}
    monkeypatch.chdir("/")
    assert library.resolve() == library.resolve(None) == tiny_gguf
    assert "not on this machine" in error("default", "org/none")
    assert "no place" in error("default", REPO, "--unset")
    assert as_json("default", "--unset") == {"default": "komt-local-demo"}


# --- import --------------------------------------------------------------------------------------


def test_a_file_is_taken_in_where_it_is(tiny_gguf: Path, as_json: Json) -> None:
    (record,) = as_json("import", str(tiny_gguf))
    assert record["path"] == str(tiny_gguf)
    assert record["sha256"] == digests.digest_of(tiny_gguf)
    assert (record["name"], record["type"], record["owned"]) == (tiny_gguf.stem, "F16", False)
    assert library.resolve(tiny_gguf.stem) == tiny_gguf


def test_a_copy_is_ours(tiny_gguf: Path, as_json: Json, home: Path) -> None:
    report = tiny_gguf.with_name(f"{tiny_gguf.name}.report.json")
    report.write_text("{}")
    (record,) = as_json("import", str(tiny_gguf), "--name", "copied", "--copy")
    report.unlink()
    path = home / "models" / "copied.gguf"
    assert record["path"] == str(path)
    assert path.read_bytes() == tiny_gguf.read_bytes()
    assert path.with_name("copied.gguf.report.json").read_text() == "{}"
    assert as_json("rm", "copied", "--yes")["freed_bytes"] == tiny_gguf.stat().st_size + 2
    assert list(path.parent.iterdir()) == []


def ollama_store(folder: Path, model: Path, name: str, *, owner: str = "library") -> Path:
    digest = digests.digest_of(model)
    blob = folder / "blobs" / f"sha256-{digest}"
    manifest = folder / "manifests" / "registry.ollama.ai" / owner / name
    for path in (blob, manifest):
        path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(model, blob)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": "sha256:" + "0" * 64},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return blob


def test_the_store_of_ollama(
    tiny_gguf: Path, tmp_path: Path, as_json: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "user" / ".ollama" / "models"
    blob = ollama_store(store, tiny_gguf, "eeve/latest")
    ollama_store(store, tiny_gguf, "exaone3.5/7.8b")
    ollama_store(store, tiny_gguf, "tiny/q8", owner="someone")
    (store / "manifests" / "junk").write_text("{}")
    names = [item.name for item in find("ollama")]
    assert names == ["eeve", "exaone3.5-7.8b", "someone-tiny-q8"]
    assert [item.name for item in find(str(store))] == names
    (record,) = as_json("import", "ollama:exaone3.5:7.8b")
    assert (record["name"], record["path"]) == ("exaone3.5-7.8b", str(blob))
    assert library.resolve("exaone3.5-7.8b") == blob
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "empty"))
    with pytest.raises(ModelNotFound, match="no GGUF file in 'ollama'"):
        find("ollama")


def test_a_damaged_blob_of_ollama_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    blob = ollama_store(tmp_path / "store", tiny_gguf, "m/latest")
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(InvalidModel, match="is damaged"):
        from komt_local.library.adding import add

        add(find(str(tmp_path / "store"))[0], copy=False)
    assert records.load().records == {}


def test_the_folder_of_lm_studio(tiny_gguf: Path, tmp_path: Path, as_json: Json) -> None:
    folder = tmp_path / "user" / ".lmstudio" / "models" / "org" / "Other-GGUF"
    folder.mkdir(parents=True)
    model = Path(shutil.copy(tiny_gguf, folder / "other-F16.gguf"))
    (folder / "mmproj-F16.gguf").write_bytes(b"")
    (folder / "bad.gguf").write_bytes(b"no model")
    (record,) = as_json("import", "lm-studio")
    assert record["name"] == "org/Other-GGUF:F16"
    assert library.resolve("org/Other-GGUF") == library.resolve("org/other-gguf:f16") == model
    as_json("rm", "org/Other-GGUF:F16", "--yes")
    assert model.exists()
    with pytest.raises(ModelNotFound):
        library.resolve("org/Other-GGUF")


def test_what_cannot_be_imported(
    tmp_path: Path, tiny_gguf: Path, error: Callable[..., str]
) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert "not a usable GGUF file" in error("import", str(tmp_path / "x.gguf"))
    assert "no GGUF file in" in error("import", str(tmp_path / "nothing"))
    shutil.copy(tiny_gguf, tmp_path / "y.gguf")
    assert "--name names one" in error("import", str(tmp_path), "--name", "both")
    assert records.load().records == {}


# --- rm ------------------------------------------------------------------------------------------


def test_rm_frees_the_blob(tiny_gguf: Path, as_json: Json) -> None:
    path = into_cache(tiny_gguf, "tiny-F16.gguf")
    blob = path.resolve()
    into_cache(tiny_gguf, "same-Q8_0.gguf", commit=OTHER)
    done = as_json("rm", f"{REPO}:F16", "--yes")
    assert done["removed"] == [str(path)] and not path.exists()
    assert blob.exists(), "another snapshot has the same file"
    as_json("rm", f"{REPO}/same-Q8_0.gguf", "--yes")
    assert not blob.exists()
    assert not list(cache.repo(REPO).folder.glob("snapshots/*"))


def test_rm_wants_to_know_which(tiny_gguf: Path, error: Callable[..., str]) -> None:
    into_cache(tiny_gguf, "tiny-F16.gguf")
    into_cache(tiny_gguf, "tiny-Q8_0.gguf")
    message = error("rm", REPO, "--yes")
    assert f"{REPO}:F16" in message and f"{REPO}:Q8_0" in message


def test_rm_takes_partial_downloads_along(tiny_gguf: Path, as_json: Json) -> None:
    path = into_cache(tiny_gguf, "tiny-F16.gguf")
    partial = path.resolve().with_name("0" * 64 + ".incomplete")
    partial.write_bytes(b"part")
    as_json("rm", REPO, "--yes")
    assert not partial.exists() and not path.exists()


def test_rm_asks_and_touches_nothing_of_others(
    tiny_gguf: Path, error: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = into_cache(tiny_gguf, "tiny-F16.gguf")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert "give --yes" in error("rm", REPO)
    assert "yours to delete" in error("rm", str(tiny_gguf), "--yes")
    assert "yours to delete" in error("rm", "komt-local-demo", "--yes")
    assert "Nothing of org/none" in error("rm", "org/none", "--yes")
    assert path.exists() and tiny_gguf.exists()


# --- records, digests ----------------------------------------------------------------------------


def record_of(path: Path, **changes: Any) -> Record:
    return replace(Record(str(path), "m", "imported", 1, 1), **changes)


def test_digests_are_compared(tiny_gguf: Path, tmp_path: Path) -> None:
    path = into_cache(tiny_gguf, "tiny-F16.gguf")
    assert digests.check_digest(path).ok is True
    copy = Path(shutil.copy(tiny_gguf, tmp_path / "copy.gguf"))
    assert digests.check_digest(copy).ok is None
    records.remember(record_of(copy, sha256="0" * 64))
    assert digests.check_digest(copy).ok is False
    seen: list[tuple[int, int]] = []
    digests.digest_of(copy, lambda *pair: seen.append(pair))
    assert seen[-1] == (copy.stat().st_size, copy.stat().st_size)
    with pytest.raises(InvalidModel):
        digests.digest_of(tmp_path / "none")


def test_records_survive_and_pass_over_what_is_newer(home: Path) -> None:
    record = record_of(Path("/x/한글.gguf"), licence="mit")
    records.remember(record)
    value = json.loads((home / "library.json").read_text(encoding="utf-8"))
    value["records"][0]["of_tomorrow"] = 1
    value["more"] = {}
    (home / "library.json").write_text(json.dumps(value), encoding="utf-8")
    assert records.load().records == {record.path: record}
    records.forget(Path(record.path))
    assert records.load().records == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"records": [1]}', '{"records": [{"path": 1}]}'])
def test_a_broken_list_is_said(home: Path, text: str, error: Callable[..., str]) -> None:
    home.mkdir()
    (home / "library.json").write_text(text)
    assert "library.json cannot be read" in error("list")


def test_writers_do_not_lose_each_others_words(home: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from komt_local.library import records as r\n"
        "for i in range(20): r.touch(Path(f'/{sys.argv[1]}/{i}'))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    threads = [
        threading.Thread(target=lambda n=n: [records.touch(Path(f"/{n}/{i}")) for i in range(20)])
        for n in "cd"
    ]
    for thread in threads:
        thread.start()
    for waited in (*threads,):
        waited.join()
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(records.load().used) == 80
    assert [path.name for path in home.iterdir() if path.suffix == ".tmp"] == []


def test_a_data_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_gguf: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KOMT_LOCAL_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises((LibraryError, KomtError), match="KOMT_LOCAL_HOME"):
        records.remember(record_of(tiny_gguf))
    records.touch(tiny_gguf)


def test_a_repo_that_is_gone_leaves_no_entry(tiny_gguf: Path, tmp_path: Path) -> None:
    gone = Path(shutil.copy(tiny_gguf, tmp_path / "gone.gguf"))
    assert run(["import", str(gone)]) == 0
    gone.unlink()
    (entry,) = (entry for entry in contents() if entry.path == gone)
    assert (entry.problem, entry.size) == ("missing", 0)
    with pytest.raises(ModelNotFound):
        library.resolve("gone")
    with pytest.raises(UsageError):
        library.expand("")
