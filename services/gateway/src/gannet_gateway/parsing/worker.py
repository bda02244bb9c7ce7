"""The process that reads files which nobody has checked: `python -m gannet_gateway.parsing.worker`, started by `parser`.

It takes one file after the other on stdin and answers each on stdout. A request is a JSON line (mime_type, timeout_s) and the file in
frames, a 4-byte length before each and an empty one at the end. The reply is a JSON line, `text_bytes` and that many bytes of text, or
`error`, with `exhausted` where this process is of no more use. The kernel bounds its memory, and its time, should the gateway be gone
that would have stopped it. It shares nothing with the gateway and may die at any point.
"""

import json
import os
import resource
import signal
import sys
import tempfile
from typing import IO

from gannet_gateway.parsing.formats import to_text
from gannet_gateway.parsing.text import Limits, Unreadable

FRAME_BYTES = 4
# The gateway's own time limit comes first.
ALARM_GRACE_S = 5
# Larger files are kept on disk while they are read.
SPOOLED_BYTES_MAX = 4 << 20


def main() -> None:
    """Serve until stdin ends."""
    settings = json.loads(sys.argv[1])
    limits = Limits(text_bytes_max=settings["text_bytes_max"], unpacked_bytes_max=settings["unpacked_bytes_max"])
    memory_bytes_max: int = settings["memory_bytes_max"]
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    requests = sys.stdin.buffer
    # Whatever a library prints must not end up among the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while header := requests.readline():
        request = json.loads(header)
        with tempfile.SpooledTemporaryFile(SPOOLED_BYTES_MAX) as file:
            _receive(requests, file)
            signal.alarm(int(request["timeout_s"]) + ALARM_GRACE_S)
            _answer(file, request["mime_type"], limits, memory_bytes_max, replies)
            signal.alarm(0)


def _receive(requests: IO[bytes], file: IO[bytes]) -> None:
    while size := int.from_bytes(requests.read(FRAME_BYTES), "big"):
        file.write(requests.read(size))
    file.seek(0)


def _answer(file: IO[bytes], mime_type: str, limits: Limits, memory_bytes_max: int, replies: IO[bytes]) -> None:
    text = b""
    try:
        text = to_text(file, mime_type, limits).encode()
        reply: dict[str, object] = {"text_bytes": len(text)}
    except Unreadable as error:
        reply = {"error": str(error)}
    except MemoryError:
        problem = f"reading it takes more than parse_memory_bytes_max = {memory_bytes_max} bytes"
        reply = {"error": problem, "exhausted": True}
    except Exception as error:  # noqa: BLE001 - the root of a file: libraries raise anything on broken ones
        reply = {"error": f"no text can be read from it as {mime_type} ({type(error).__name__}: {str(error)[:200]})"}
    replies.write(json.dumps(reply).encode() + b"\n" + text)
    replies.flush()


if __name__ == "__main__":
    main()
