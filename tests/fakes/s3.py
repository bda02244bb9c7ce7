"""A small S3 server on loopback: one bucket in memory, path-style addresses, signed requests, faults on demand.

It speaks what a blob store needs: put, get with ranges, head, delete, bulk delete, list by prefix with pages, multipart uploads. It
checks that requests are signed by Signature Version 4 (algorithm, key, scope, signed headers, date), not the signature's value.
"""

import contextlib
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET, KEY_ID, REGION = "gannet-test", "AKTEST", "eu-test-1"
PAGE_KEYS = 3
_SIGNATURE = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={KEY_ID}/\d{{8}}/{REGION}/s3/aws4_request, "
    r"SignedHeaders=[a-z0-9;-]*host[a-z0-9;-]*x-amz-date[a-z0-9;-]*, Signature=[0-9a-f]{64}"
)


@dataclass
class Bucket:
    """What the server holds and has seen. `faults` are consumed one a request: "500", "cut" (half an answer) or "hang"."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    largest_body: int = 0
    faults: list[str] = field(default_factory=list)
    always: str = ""
    released: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    endpoint: str = ""

    def next_fault(self) -> str:
        """What is to go wrong with this request."""
        with self.lock:
            return self.faults.pop(0) if self.faults else self.always


@contextlib.contextmanager
def s3_server() -> Iterator[Bucket]:
    """The server, on a free port."""
    bucket = Bucket()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bucket": bucket}))
    server.daemon_threads = True
    bucket.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield bucket
    finally:
        bucket.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        _, name, key = (*unquote(parts.path).split("/", 2), "")[:3]
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        verb = f"{self.command}{''.join(f' {word}' for word in ('uploads', 'uploadId', 'delete', 'list-type') if word in query)}"
        self.bucket.requests[verb] += 1
        self.bucket.largest_body = max(self.bucket.largest_body, len(body))
        fault = self.bucket.next_fault()
        self._cut = fault == "cut"
        match fault:
            case "500":
                self._reply(500, b"<Error><Code>InternalError</Code></Error>")
            case "hang":
                self.bucket.released.wait()
                self.close_connection = True
            case _ if (
                not _SIGNATURE.fullmatch(self.headers.get("authorization", "")) or "x-amz-date" not in self.headers
            ):
                self._reply(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
            case _ if name != BUCKET:
                self._reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            case _:
                with self.bucket.lock:
                    self._answer(key, query, body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - the base class looks for these names

    def _answer(self, key: str, query: dict[str, str], body: bytes) -> None:
        blobs = self.bucket.blobs
        match self.command, query:
            case _, {"uploadId": _} | {"uploads": _}:
                self._answer_multipart(key, query, body)
            case "GET", {"list-type": _}:
                self._list(query)
            case "GET" | "HEAD", _:
                self._get(key)
            case "PUT", _:
                blobs[key] = body
                self._reply(200, etag="whole")
            case "POST", {"delete": _}:
                deleted = re.findall(r"<Key>(.*?)</Key>", body.decode())
                for each in deleted:
                    blobs.pop(each, None)
                result = "".join(f"<Deleted><Key>{each}</Key></Deleted>" for each in deleted)
                self._reply(200, f"<DeleteResult>{result}</DeleteResult>".encode())
            case "DELETE", _:
                blobs.pop(key, None)
                self._reply(204)

    def _answer_multipart(self, key: str, query: dict[str, str], body: bytes) -> None:
        parts, names = self.bucket.parts, f"<Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key>"
        match self.command, query:
            case "PUT", {"uploadId": upload, "partNumber": number}:
                parts[upload][int(number)] = body
                self._reply(200, etag=f"part-{number}")
            case "POST", {"uploads": _}:
                upload = f"u{len(parts) + 1}"
                parts[upload] = {}
                result = f"{names}<UploadId>{upload}</UploadId>"
                self._reply(200, f"<InitiateMultipartUploadResult>{result}</InitiateMultipartUploadResult>".encode())
            case "POST", {"uploadId": upload}:
                self.bucket.blobs[key] = b"".join(piece for _, piece in sorted(parts.pop(upload).items()))
                result = f"{names}<ETag>whole</ETag>"
                self._reply(200, f"<CompleteMultipartUploadResult>{result}</CompleteMultipartUploadResult>".encode())
            case _, {"uploadId": upload}:
                parts.pop(upload, None)
                self._reply(204)

    def _get(self, key: str) -> None:
        content = self.bucket.blobs.get(key)
        if content is None:
            self._reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or "")
        if span is None:
            self._reply(200, content, etag="whole")
            return
        start, end = int(span[1]), min(int(span[2] or len(content)) + 1, len(content))
        self._reply(206, content[start:end], etag="whole", content_range=f"bytes {start}-{end - 1}/{len(content)}")

    def _list(self, query: dict[str, str]) -> None:
        after = query.get("continuation-token", "")
        keys = sorted(key for key in self.bucket.blobs if key.startswith(query.get("prefix", "")) and key > after)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{now}</LastModified><ETag>e</ETag><Size>{len(self.bucket.blobs[key])}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys[:PAGE_KEYS]
        )
        more = len(keys) > PAGE_KEYS
        token = f"<NextContinuationToken>{escape(keys[PAGE_KEYS - 1])}</NextContinuationToken>" if more else ""
        result = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}<KeyCount>{len(keys[:PAGE_KEYS])}</KeyCount>{contents}"
        self._reply(200, f"<ListBucketResult>{result}</ListBucketResult>".encode())

    def _reply(self, status: int, body: bytes = b"", *, etag: str = "", content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("last-modified", datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT"))
        if etag:
            self.send_header("etag", f'"{etag}"')
        if content_range:
            self.send_header("content-range", content_range)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if self._cut else body)
        self.close_connection = self.close_connection or self._cut
