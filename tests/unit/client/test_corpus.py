"""The demo's documents."""

from gannet_client.demo import corpus
from gannet_client.files import find_files, read_file


def test_write_corpus_gives_hundreds_of_good_documents_and_again_the_same(tmp_path):
    """Every file can be ingested; a second run touches none."""
    count = corpus.write_corpus(tmp_path)
    found = find_files([tmp_path])

    assert count == len(found) > 200
    assert 500_000 < sum(len(read_file(file)) for file in found) < 2_000_000
    written = {file.path: file.path.stat().st_mtime_ns for file in found}
    assert corpus.write_corpus(tmp_path) == count
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_module_text_has_public_docstrings_with_signatures():
    """Classes, methods and functions have headings; private and undocumented names are left out."""
    source = '''"""About m."""
class A(B):
    """About A."""
    def f(self, x: int = 1):
        """About f."""
    def _g(self):
        """Hidden."""
async def h(*, y):
    """About h."""
def undocumented(): ...
'''
    assert corpus.module_text("m", source) == (
        "# m\n\nAbout m.\n\n## class A\n\nAbout A.\n\n## A.f(self, x: int=1)\n\nAbout f.\n\n## h(*, y)\n\nAbout h.\n"
    )


def test_module_text_ends_between_entries(monkeypatch):
    """A long module is cut where an entry ends."""
    monkeypatch.setattr(corpus, "MODULE_CHARACTERS_MAX", 40)
    source = '"""M."""\ndef a():\n    """First."""\ndef b():\n    """Second."""\n'

    assert corpus.module_text("m", source) == "# m\n\nM.\n\n## a()\n\nFirst.\n"
