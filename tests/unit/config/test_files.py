"""Local files: regular and bounded, or a problem in words."""

import os
from pathlib import Path

from stackward.config.files import FileBytes, FileProblem, expand, read_file


def problem(path: Path) -> str:
    found = read_file(path, bytes_max=100)
    assert isinstance(found, FileProblem)
    return found.message


def test_a_regular_file_is_read_whole(tmp_path: Path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    file.chmod(0o640)
    assert read_file(file, bytes_max=100) == FileBytes(b"x" * 100, 0o640)


def test_what_is_no_readable_file_is_told_in_words(tmp_path: Path):
    (tmp_path / "large").write_bytes(b"x" * 101)
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    assert problem(tmp_path / "gone") == "there is no such file"
    assert problem(tmp_path / "large" / "inside") == "there is no such file"
    assert problem(tmp_path / "large") == "is larger than 100 bytes"
    assert problem(tmp_path) == "is a directory, not a file"
    assert problem(tmp_path / "pipe") == "is not a regular file"
    assert problem(tmp_path / "circle") == "is a symbolic link that leads nowhere"
    assert problem(tmp_path / "nul\0byte") == "is not a path"
    assert problem(tmp_path / ("n" * 300)).startswith("cannot be read: ")


def test_a_path_is_itself_and_a_glob_its_matches_in_order(tmp_path: Path):
    for name in ("b.yaml", "a.yaml", "c.txt"):
        (tmp_path / name).touch()
    assert expand("gone.yaml", tmp_path) == (tmp_path / "gone.yaml",)
    assert expand("*.yaml", tmp_path) == (tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert expand(str(tmp_path / "?.txt"), Path("/")) == (tmp_path / "c.txt",)


def test_an_empty_or_endless_selection_is_a_problem(tmp_path: Path):
    for number in range(201):
        (tmp_path / f"{number}.yaml").touch()
    for pattern, message in (
        ("*.yml", "matches no file"),
        ("*.yaml", "matches more than 200 files"),
        ("nul\0*", "is not a path"),
    ):
        found = expand(pattern, tmp_path)
        assert isinstance(found, FileProblem)
        assert found.message == message
