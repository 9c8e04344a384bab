"""Files of any file system appear whole or not at all."""

import pathlib

import pytest
from fake_file_system import FakeFileSystem, RefusingFileSystem

from pipelines.file_systems import is_remote, join, whole_file, write_json


@pytest.fixture(params=["local", "fake", "refusing"])
def folder(request, tmp_path):
    for files in (FakeFileSystem, RefusingFileSystem):
        files.objects.clear()
        files.log.clear()
    return str(tmp_path) if request.param == "local" else f"{request.param}://bucket/folder"


def _content(folder: str) -> dict[str, bytes]:
    if is_remote(folder):
        files = FakeFileSystem if folder.startswith("fake") else RefusingFileSystem
        return {name: files.objects[join(folder, name)][0] for name in files.names(folder)}
    return {path.name: path.read_bytes() for path in pathlib.Path(folder).iterdir()}


def test_a_file_appears_when_it_is_complete_and_takes_the_place_of_the_earlier_one(folder):
    for content in (b"first", b"second"):
        with whole_file(join(folder, "a.txt")) as file:
            before = _content(folder).get("a.txt")
            file.write(content)
            file.flush()
            assert _content(folder).get("a.txt") == before
    assert _content(folder) == {"a.txt": b"second"}


def test_what_could_not_be_completed_leaves_the_earlier_file_and_nothing_else(folder):
    write_json(join(folder, "a.json"), ["é"])
    with pytest.raises(RuntimeError, match="worker lost"):
        _fail_half_way(join(folder, "a.json"))
    assert _content(folder) == {"a.json": '[\n  "é"\n]\n'.encode()}


def _fail_half_way(path: str) -> None:
    with whole_file(path) as file:
        file.write(b"half")
        raise RuntimeError("worker lost")


def test_folders_that_a_local_file_needs_are_made(tmp_path):
    write_json(tmp_path / "a" / "b" / "c.json", {})
    assert (tmp_path / "a" / "b" / "c.json").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("path", "remote"), [("gs://b/c", True), ("/a/b", False), ("a", False), ("s3://b", True)]
)
def test_a_path_with_a_scheme_is_remote(path, remote):
    assert is_remote(path) == remote
