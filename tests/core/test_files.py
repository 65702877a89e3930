"""Atomic writes: a file has its old content or its new one, and no temporary file is left behind."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from perceptual_style.core import files
from perceptual_style.core.files import atomic_folder, atomic_write, check_writable, remembered, remove_leftovers

INTERRUPTED = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
with files.atomic_write(sys.argv[2]) as temporary:
    temporary.write_text("half")
    os._exit(1)
"""


def interrupted_write(target):
    """Kill a process while it writes ``target`` and return the temporary file that it leaves."""
    before = set(target.parent.iterdir())
    subprocess.run([sys.executable, "-c", INTERRUPTED, files.__file__, str(target)], check=False)
    (left,) = set(target.parent.iterdir()) - before
    return left


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_atomic_write_creates_the_file_and_its_folders(tmp_path):
    target = tmp_path / "a" / "b" / "out.safetensors"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".safetensors"
        assert temporary.name.startswith(".")
        assert not target.exists()
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert names(target.parent) == ["out.safetensors"]


def test_readers_see_the_old_content_until_the_end(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with atomic_write(str(target)) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("exists", [True, False])
def test_exception_leaves_everything_as_it_was(tmp_path, error, exists):
    target = tmp_path / "out.txt"
    if exists:
        target.write_text("old")
    with pytest.raises(type(error)), atomic_write(target) as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == (["out.txt"] if exists else [])
    assert not exists or target.read_text() == "old"


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_failed_flush_or_move_leaves_the_old_file(tmp_path, monkeypatch, function):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "out.txt"
    target.write_text("old")
    monkeypatch.setattr(files.os, function, full)
    with pytest.raises(OSError, match="No space left"), atomic_write(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_file_is_flushed_before_it_is_moved(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(files.os, name, lambda *a, n=name, f=original: (calls.append(n), f(*a))[1])
    with atomic_write(tmp_path / "out.txt") as temporary:
        temporary.write_text("new")
    assert calls[:2] == ["fsync", "replace"]


def test_folder_in_the_way_is_rejected_before_any_work(tmp_path):
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path):
        pytest.fail("the body must not run")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError), atomic_write(tmp_path / "file" / "out.txt"):
        pytest.fail("the body must not run")
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
def test_permissions_are_kept_and_links_followed(tmp_path):
    target, link = tmp_path / "data" / "real.txt", tmp_path / "link.txt"
    target.parent.mkdir()
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with atomic_write(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640


def test_protected_file_is_not_replaced(tmp_path, monkeypatch):
    target = tmp_path / "out.txt"
    target.write_text("old")
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError), atomic_write(target):
        pytest.fail("the body must not run")


@pytest.mark.parametrize("name", ["x" * 250 + ".png", "ü" * 120 + ".png", ".hidden", "no suffix"])
def test_any_file_name_can_be_written(tmp_path, name):
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == [name]
    left = interrupted_write(tmp_path / name)
    assert remove_leftovers(tmp_path / name) == [left]


def test_two_writers_use_different_temporary_files(tmp_path):
    target = tmp_path / "out.txt"
    with atomic_write(target) as first, atomic_write(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    left = interrupted_write(target)
    other = interrupted_write(tmp_path / "other.txt")
    assert left.read_text() == "half"
    assert target.read_text() == "old"
    assert remove_leftovers(target) == [left]
    assert names(tmp_path) == sorted(["out.txt", other.name])
    assert remove_leftovers(target) == []


def test_files_of_running_processes_and_other_computers_stay_for_a_day(tmp_path, monkeypatch):
    target = tmp_path / "out.txt"
    with atomic_write(target) as temporary:
        temporary.write_text("new")
        assert remove_leftovers(target) == []
    left = interrupted_write(target)
    monkeypatch.setattr(files, "node", lambda: "another computer")
    assert remove_leftovers(target) == []
    yesterday = time.time() - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    assert remove_leftovers(target) == [left]
    assert target.read_text() == "new"


def test_no_leftovers_to_remove(tmp_path):
    assert remove_leftovers(tmp_path / "nowhere" / "out.txt") == []


def test_is_running_knows_live_and_dead_processes():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert files._is_running(os.getpid())
    assert files._is_running(process.pid)
    process.communicate(b"\n")
    assert not files._is_running(process.pid)
    assert not files._is_running(10**30)


def test_check_writable_finds_problems_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert check_writable(tmp_path / "a" / "b" / "new.png") == tmp_path / "a" / "b" / "new.png"
    assert check_writable(tmp_path / "link") == tmp_path / "file"
    assert names(tmp_path) == ["file", "link"]
    for path, error in ((tmp_path, IsADirectoryError), (tmp_path / "file" / "new.png", NotADirectoryError)):
        with pytest.raises(error):
            check_writable(path)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(tmp_path))
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "a" / "new.png")
    check_writable(tmp_path / "file")


@pytest.mark.parametrize("exists", [False, True])
def test_folder_is_complete_or_as_it_was(tmp_path, exists):
    target = tmp_path / "new" / "folder.mlpackage"
    if exists:
        target.mkdir(parents=True)
        (target / "old.txt").write_text("old")
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), atomic_folder(target) as temporary:
            (temporary / "half.txt").write_text("half")
            raise error
        assert target.exists() == exists
        assert [path.name for path in target.parent.iterdir()] == ["folder.mlpackage"] * exists
    with atomic_folder(target) as temporary:
        assert temporary.suffix == target.suffix
        (temporary / "inner").mkdir(mode=0o700)
        (temporary / "inner" / "new.txt").write_text("new")
        assert target.exists() == exists
    assert {path.name for path in target.rglob("*")} == {"inner", "new.txt"}
    assert [path.name for path in target.parent.iterdir()] == ["folder.mlpackage"]
    assert (target / "inner").stat().st_mode == target.stat().st_mode


def test_folder_that_cannot_be_moved_leaves_the_old_one(tmp_path, monkeypatch):
    target, rename = tmp_path / "folder", os.rename
    target.mkdir()
    (target / "old.txt").write_text("old")

    def failing(source, to):
        if (source / "new.txt").exists():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(source, to)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError), atomic_folder(target) as temporary:
        (temporary / "new.txt").write_text("new")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["folder", "folder/old.txt"]


def test_a_file_is_read_again_when_it_changes(tmp_path):
    file, seen = tmp_path / "notes.txt", []

    @remembered
    def read(path: str) -> str | None:
        seen.append(path)
        return Path(path).read_text() if Path(path).exists() else None

    assert [read(file), read(file)] == [None, None] and len(seen) == 1
    file.write_text("one")
    assert [read(file), read(str(file))] == ["one", "one"] and len(seen) == 2
    file.write_text("another")
    assert read(file) == "another"
    file.unlink()
    assert read(file) is None
    assert read("no\0name") is None
