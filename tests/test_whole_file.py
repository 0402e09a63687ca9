"""Files are there whole or as they were."""

import os
import stat
import threading

import pytest

from initfast.whole_file import replacing, write_whole


def test_what_was_there_is_replaced_with_its_mode_and_through_links(tmp_path):
    path, link = tmp_path / "a.html", tmp_path / "link.html"
    write_whole(path, b"old")
    path.chmod(0o640)
    link.symlink_to(path)
    write_whole(str(link), b"new")
    assert link.is_symlink() and path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["a.html", "link.html"]


@pytest.mark.parametrize("failing", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_where_it_fails_nothing_changes(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.html"
    write_whole(path, b"old")

    def replace(*_):
        raise failing

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(type(failing)):
        write_whole(path, b"new")
    assert os.listdir(tmp_path) == ["a.html"] and path.read_bytes() == b"old"


def test_a_missing_directory_and_one_that_cannot_be_written_to(tmp_path):
    path = tmp_path / "nowhere" / "a.html"
    with pytest.raises(FileNotFoundError) as error:
        write_whole(path, b"")
    said = f"cannot write {str(path)!r}: there is no directory {str(path.parent)!r}"
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(IsADirectoryError, match=r"cannot write .*: Is a directory"):
        write_whole(tmp_path, b"")
    with pytest.raises(OSError, match=r"cannot write '/proc/a\.html': ") as error:
        write_whole("/proc/a.html", b"")  # read-only for the superuser too
    assert "partial" not in str(error.value)


def test_a_device_stays_a_device():
    write_whole(os.devnull, b"anything")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_pipe_is_written_to_by_the_name_of_its_descriptor():
    reader, writer = os.pipe()
    write_whole(f"/dev/fd/{writer}", b"anything")
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"anything"


def test_a_reader_sees_one_of_the_writers_files(tmp_path):
    path = tmp_path / "a.html"
    contents = [bytes([65 + i]) * 100_000 for i in range(2)]
    write_whole(path, contents[0])

    def write(content):
        for _ in range(20):
            write_whole(path, content)

    writers = [threading.Thread(target=write, args=(c,)) for c in contents]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    assert seen <= set(contents) and os.listdir(tmp_path) == ["a.html"]


def test_a_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="is no file"), replacing(pipe) as beside:
        beside.write_bytes(b"weights")
    assert os.listdir(tmp_path) == ["pipe"] and not pipe.is_file()
