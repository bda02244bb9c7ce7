"""A process for the supervisor to watch: serves the health service on CHILD_PORT, or misbehaves as CHILD_MODE says.

Modes: "serve"; "fail" says why and ends with exit code 2; "stubborn" serves and ignores SIGTERM; "chatty" writes a lot, then serves.
Real: a process, a port, signals, output. Fake: it does nothing else.
"""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1.health import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server


def main() -> None:
    """Do what CHILD_MODE says, until SIGTERM."""
    mode = os.environ["CHILD_MODE"]
    if mode == "fail":
        sys.stderr.write("config: unknown setting FISH\n")
        sys.exit(2)
    if mode == "chatty":
        for number in range(20_000):
            sys.stderr.write(f"line {number} of many, to fill the file\n")
    server = grpc.server(ThreadPoolExecutor(2))
    add_HealthServicer_to_server(HealthServicer(), server)
    server.add_insecure_port(f"127.0.0.1:{os.environ['CHILD_PORT']}")
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "stubborn" else lambda *_: server.stop(None))
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
