"""`python -m gannet_inference build|list`: what `make models` and `gannet models` run."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gannet_inference.errors import ModelError
from gannet_inference.fetch import fetch, source_digests
from gannet_inference.manifest import Manifest, Precision, load_manifest
from gannet_inference.placement import cpu_instructions, default_precision
from gannet_inference.store import BuiltModel, ensure_built
from gannet_kernels import compile_all

_USERS_MISTAKE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds or lists models.

    Progress goes to stderr; with --json, one JSON object per model to stdout.

    Returns:
        0, or 2 after one line on stderr that says what the user has to change.
    """
    options = _parser().parse_intermixed_args(arguments)
    try:
        manifest = load_manifest(options.manifest)
        names = options.names or sorted(manifest.models)
        if options.command == "list":
            _list(manifest, names, as_json=options.json)
        else:
            _build(manifest, names, options.precision, options.models_dir, as_json=options.json)
    except ModelError as error:
        _say(f"error: {error}")
        return _USERS_MISTAKE
    except OSError as error:
        _say(f"error: {options.models_dir}: {error}")
        return _USERS_MISTAKE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gannet_inference", description="Fetches, checks and builds the models that Gannet serves."
    )
    parser.add_argument("command", choices=["build", "list"])
    parser.add_argument("names", nargs="*", help="models of the manifest; all of them if none is named")
    parser.add_argument("--models-dir", type=Path, default=Path(".gannet/models"), help="where builds are kept")
    parser.add_argument("--manifest", type=Path, help="a TOML manifest that is merged over the built-in one")
    parser.add_argument("--precision", choices=["int8", "fp16", "fp32"], help="instead of each model's own")
    parser.add_argument("--json", action="store_true", help="write one JSON object per model to stdout")
    return parser


def _list(manifest: Manifest, names: Sequence[str], *, as_json: bool) -> None:
    for entry in map(manifest.entry, names):
        if as_json:
            _tell(json.dumps(entry.model_dump(mode="json")))
        else:
            _tell(f"{entry.name}  {entry.kind}  {entry.precision}  {entry.tokens_max} tokens  {entry.licence}")


def _build(
    manifest: Manifest, names: Sequence[str], precision: Precision | None, models_dir: Path, *, as_json: bool
) -> None:
    # Looked up first: a mistyped name should not surface after minutes of downloads.
    for entry in [manifest.entry(name) for name in names]:
        if entry.kind == "decoder":
            folder = fetch(entry, models_dir, progress=_say)
            _say(f"{entry.name}: ready in {folder}, {len(source_digests(entry))} files")
            continue
        # What servers on this machine open, and what others may where the folder goes into an image.
        own = (default_precision(entry, cpu_instructions()), entry.precision, *entry.also)
        for wanted in (precision,) if precision else dict.fromkeys(own):
            built = ensure_built(entry, wanted, models_dir, progress=_say)
            if as_json:
                _tell(json.dumps(_as_json(built)))
            else:
                _say(f"{built.name}: {built.precision} ready in {built.path}")
    # Servers that start at once would each compile them, and share the cores meanwhile.
    compile_all()


def _as_json(built: BuiltModel) -> dict[str, Any]:
    return {
        "name": built.name,
        "kind": built.kind,
        "precision": built.precision,
        "digest": built.digest,
        "dim": built.dim,
        "tokens_max": built.tokens_max,
        "licence": built.licence,
        "path": str(built.path),
    }


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
