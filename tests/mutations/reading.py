"""Breaks of how documents come in: worker processes and their limits, sources, blobs."""

from mutation import GATEWAY, one

PARSER = f"{GATEWAY}/parsing/parser.py"
WORKER = f"{GATEWAY}/parsing/worker.py"
PARSERS = "tests/unit/gateway/parsing/test_parser.py"
BINARY = "tests/unit/gateway/parsing/test_binary.py"

_PARSING = (
    one(
        "a file that hangs its parser is given up",
        PARSERS,
        PARSER,
        "asyncio.timeout(self._timeout_s)",
        "asyncio.timeout(None)",
    ),
    one(
        "a worker's memory is bounded",
        PARSERS,
        WORKER,
        "    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))\n",
        "",
    ),
    one(
        "a worker that used up its memory is replaced",
        PARSERS,
        WORKER,
        '"error": problem, "exhausted": True',
        '"error": problem',
    ),
    one(
        "a worker that hangs is replaced", PARSERS, PARSER, "        self.usable = False\n        try:", "        try:"
    ),
    one("a worker may die for another's sake", PARSERS, PARSER, "ATTEMPTS = 2", "ATTEMPTS = 1"),
    one(
        "a caller who leaves ends the worker",
        PARSERS,
        PARSER,
        "                    await asyncio.shield(worker.end())\n",
        "",
    ),
    one("a worker gets no secrets", PARSERS, PARSER, 'env={"PYTHONPATH"', 'env={**os.environ, "PYTHONPATH"'),
    one(
        "an archive is measured before it is unpacked",
        BINARY,
        f"{GATEWAY}/parsing/docx.py",
        "if unpacked > limits.unpacked_bytes_max:",
        "if False:",
    ),
    one(
        "a text is bounded by what comes out",
        BINARY,
        f"{GATEWAY}/parsing/text.py",
        "        if self._bytes_left < 0:",
        "        if False:",
    ),
    one("an encrypted file says so", BINARY, f"{GATEWAY}/parsing/pdf.py", "if reader.is_encrypted and", "if False and"),
)

SOURCE_TESTS = "tests/unit/gateway/sources/test_runner.py"
PLACES_TESTS = "tests/unit/gateway/sources/test_places.py"
STORES_TESTS = "tests/unit/gateway/blobs/test_stores.py"
RUNNER = f"{GATEWAY}/sources/runner.py"
FILES = f"{GATEWAY}/sources/files.py"
PLACES = f"{GATEWAY}/sources/places.py"
SOURCES = f"{GATEWAY}/ledger/sources.py"
DIRECTORY = f"{GATEWAY}/blobs/directory.py"

_SOURCING = (
    one(
        "a mirror leaves what was uploaded by hand",
        SOURCE_TESTS,
        RUNNER,
        "if document.metadata.get(SOURCE_KEY) == source.name.source:",
        "if True:",
    ),
    one(
        "a mirror without files deletes nothing", SOURCE_TESTS, FILES, "        if not files:\n", "        if False:\n"
    ),
    one("a source's links are not followed", SOURCE_TESTS, FILES, " and not file.is_symlink()", ""),
    one(
        "a source runs at one gateway",
        SOURCE_TESTS,
        SOURCES,
        'or_(sources.c.holder == "", sources.c.lease_until_s < now)',
        "True",
    ),
    one(
        "a lost source run is not recorded",
        SOURCE_TESTS,
        SOURCES,
        "sources.c.holder == holder).values(values)",
        "True).values(values)",
    ),
    one(
        "a directory is compared after its links",
        PLACES_TESTS,
        PLACES,
        "real = Path(directory).resolve()",
        "real = Path(directory)",
    ),
    one(
        "an address is compared in whole parts",
        PLACES_TESTS,
        PLACES,
        "parts[3][: len(opened[3])] == opened[3]",
        "url.startswith(prefix)",
    ),
    one(
        "an address is opened again at every run",
        SOURCE_TESTS,
        FILES,
        "self._places.check_url(source.url, source.name.tenant)",
        "source.url",
    ),
)

_BLOBS = (
    one(
        "a blob's bytes are on disk before its name",
        STORES_TESTS,
        DIRECTORY,
        "            os.fsync(file.fileno())\n",
        "",
    ),
    one(
        "a blob's new folders are on disk",
        STORES_TESTS,
        DIRECTORY,
        "    for folder in {new.parent for new in missing}:\n",
        "    for folder in ():\n",
    ),
    one(
        "a missing bucket is no missing blob",
        STORES_TESTS,
        f"{GATEWAY}/blobs/s3.py",
        ' and "NoSuchBucket" not in str(error)',
        "",
    ),
)

PARSING = (*_PARSING, *_SOURCING, *_BLOBS)
