"""What the demo shows and checks, against the fake gateway."""

import pytest

from gannet_client.cli import demo
from gannet_client.local.home import StackFailed

TEXT = "# with\n\nThe purpose of the with statement is to wrap a block.\n"


@pytest.fixture
def folder(tmp_path):
    """A corpus of two documents."""
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(TEXT)
    return tmp_path


async def test_show_answers_with_checked_quotes(client, folder, capsys):
    """The answer is printed with its footnotes, and every quote is compared."""
    await demo.show(client, folder)

    assert "each of the 2 quotes equals, byte for byte" in capsys.readouterr().out


async def test_show_quote_differs_from_the_file_fails(client, folder, monkeypatch):
    """A quote that is not in the file is found."""
    monkeypatch.setattr(demo, "ingest_files", _ingest_then_change(folder))

    with pytest.raises(StackFailed, match=r"citation \[1\] does not quote a.md"):
        await demo.show(client, folder)


async def test_show_broken_document_fails(client, folder):
    """Every document of the demo must be stored."""
    (folder / "c.md").write_text("")

    with pytest.raises(StackFailed, match=r"1 documents failed, the first: c.md: no text in it"):
        await demo.show(client, folder)


def _ingest_then_change(folder):
    ingest_files = demo.ingest_files

    async def ingest(*arguments):
        await ingest_files(*arguments)
        (folder / "a.md").write_text(TEXT.replace("purpose", "Purpose"))

    return ingest
