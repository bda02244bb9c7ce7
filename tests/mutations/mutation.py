"""One deliberate break of the code, and the test that must notice."""

from dataclasses import dataclass

INFERENCE = "libs/inference/src/gannet_inference"
GATEWAY = "services/gateway/src/gannet_gateway"
SERVICE = "libs/service/src/gannet_service"
KERNEL = "libs/kernels/src/gannet_kernels"

IMPORTS = "tests/contract/test_imports.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`edits` are (file, old, new): `old` stands in the file exactly once; empty, `new` is added as a last line."""

    promise: str
    test: str
    edits: tuple[tuple[str, str, str], ...]


def one(promise: str, test: str, file: str, old: str, new: str) -> Mutation:
    """A break that takes one edit."""
    return Mutation(promise, test, ((file, old, new),))


def forbidden_import(promise: str, file: str, line: str) -> Mutation:
    """A line that the import rules must refuse."""
    return one(f"import rule: {promise}", IMPORTS, file, "", line)
