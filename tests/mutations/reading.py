"""Breaks of how uploads are read: the worker processes and their limits."""

from mutation import GATEWAY, one

PARSER = f"{GATEWAY}/parsing/parser.py"
WORKER = f"{GATEWAY}/parsing/worker.py"
PARSERS = "tests/unit/gateway/parsing/test_parser.py"
BINARY = "tests/unit/gateway/parsing/test_binary.py"

PARSING = (
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
