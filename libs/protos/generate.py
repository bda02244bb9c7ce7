"""Writes the Python stubs of every proto file below protos/ into the folder given: `python libs/protos/generate.py OUT`."""

import shutil
import sys
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PACKAGE_DOC = '"""Generated protobuf and gRPC stubs; `make protos` writes them."""\n'


def generate(out: Path) -> None:
    """Replace `out`/gannet by freshly generated stubs; raises RuntimeError when protoc refuses a file."""
    shutil.rmtree(out / "gannet", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(str(path.relative_to(ROOT / "protos")) for path in (ROOT / "protos").rglob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={ROOT / 'protos'}",
        f"--proto_path={resources.files('grpc_tools') / '_proto'}",
        f"--proto_path={googleapis()}",
        f"--proto_path={longrunning(out / 'include')}",
        f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).parent / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet,only_async:{out}",
        f"--descriptor_set_out={out / 'gannet.binpb'}",
        "--include_imports",
        *files,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed")
    shutil.rmtree(out / "include")
    (out / "gannet.binpb").rename(out / "gannet" / "descriptors.binpb")
    for folder in [out / "gannet", *(path for path in (out / "gannet").rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text(PACKAGE_DOC)
    (out / "gannet" / "py.typed").touch()


def googleapis() -> Path:
    """The folder that holds google/rpc/*.proto, which ships with googleapis-common-protos."""
    import google.rpc  # noqa: PLC0415  (only needed here)

    return Path(next(iter(google.rpc.__path__))).parents[1]


def longrunning(include: Path) -> Path:
    """Make `include`, a folder in which google/longrunning/operations.proto has its own name: that package ships it under another."""
    folder = include / "google" / "longrunning"
    folder.mkdir(parents=True)
    shutil.copy(googleapis() / "google" / "longrunning" / "operations_proto.proto", folder / "operations.proto")
    return include


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    generate(Path(sys.argv[1]))
