"""Documents on disk."""

import os

import pytest

from gannet_client import files
from gannet_client.files import BrokenFile, FoundFile, TooManyFiles, find_files, read_file


def found(path) -> FoundFile:
    """A file as `find_files` would give it."""
    return FoundFile(path=path, document_id=path.name, mime_type="text/plain")


def test_find_files_walks_in_order_without_hidden_foreign_and_linked_folders(tmp_path):
    """Ids are relative paths; hidden files, other suffixes and links to folders are left out."""
    for name in ("b.md", "a/c.rst", "a/.hidden.txt", ".git/d.txt", "e.py", "f.HTML"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("text")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)

    assert [(file.document_id, file.mime_type) for file in find_files([tmp_path])] == [
        ("b.md", "text/markdown"),
        ("f.HTML", "text/html"),
        ("a/c.rst", "text/x-rst"),
    ]


def test_find_files_named_file_is_taken_whatever_its_suffix(tmp_path):
    """Who names a file means it."""
    (tmp_path / "README").write_text("text")

    assert [file.document_id for file in find_files([tmp_path / "README"])] == ["README"]


def test_find_files_missing_path_raises(tmp_path):
    """A typo is said."""
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        find_files([tmp_path / "none"])


def test_find_files_too_many_raises(tmp_path, monkeypatch):
    """One run is bounded."""
    monkeypatch.setattr(files, "FILES_MAX", 2)
    for index in range(3):
        (tmp_path / f"{index}.txt").write_text("text")
    with pytest.raises(TooManyFiles, match="more than 2 files"):
        find_files([tmp_path])


@pytest.mark.parametrize(
    "content, reason",
    [(b"", "no text"), (b" \n\t", "no text"), (b"ab\0c", "binary"), (b"abc\xff", "not UTF-8 at byte 3")],
)
def test_read_file_not_a_document_says_why(tmp_path, content, reason):
    """Each kind of broken file has its own words."""
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    with pytest.raises(BrokenFile, match=reason):
        read_file(found(path))


def test_read_file_of_a_binary_format_is_taken_as_it_is(tmp_path):
    """Whether there is text in it, the server says."""
    (tmp_path / "x.PDF").write_bytes(b"%PDF\0\xff")
    (file,) = find_files([tmp_path])
    assert (file.mime_type, read_file(file)) == ("application/pdf", b"%PDF\0\xff")


def test_read_file_pipe_is_refused_without_reading(tmp_path):
    """What would never end is not opened."""
    os.mkfifo(tmp_path / "p.txt")
    with pytest.raises(BrokenFile, match="not a regular file"):
        read_file(found(tmp_path / "p.txt"))


def test_read_file_gone_says_so(tmp_path):
    """A file that vanished is one failure, not a crash."""
    with pytest.raises(BrokenFile, match="No such file"):
        read_file(found(tmp_path / "gone.txt"))


def test_read_file_name_is_not_utf8_is_refused(tmp_path):
    """An id must survive the wire."""
    path = tmp_path / os.fsdecode(b"\xff.txt")
    path.write_text("text")
    with pytest.raises(BrokenFile, match="name is not UTF-8"):
        read_file(found(path))


def test_read_file_too_large_is_refused(tmp_path, monkeypatch):
    """Memory is bounded."""
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 3)
    (tmp_path / "x.txt").write_text("1234")
    with pytest.raises(BrokenFile, match="4 bytes; the limit is 3"):
        read_file(found(tmp_path / "x.txt"))
