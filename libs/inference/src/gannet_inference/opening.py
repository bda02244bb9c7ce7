"""Models by name to encoders that share a server's cores or its GPU."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from gannet_inference.encoder import BiEncoder, CrossEncoder
from gannet_inference.manifest import Precision, load_manifest
from gannet_inference.placement import Placement
from gannet_inference.store import ensure_built

E = TypeVar("E", BiEncoder, CrossEncoder)


def open_encoders(
    kind: type[E],
    names: Sequence[str],
    placement: Placement,
    *,
    manifest: Path | None,
    models_dir: Path,
    precision: Precision | None,
    queue_max: int,
    warn: Callable[[str], object],
) -> list[E]:
    """Opens models, building them first where they are not built; they share one queue.

    Args:
        kind: what the models must be.
        names: of the manifest; a name that comes twice is opened once.
        placement: where they run.
        manifest: a user's, merged over the built-in one.
        models_dir: where builds are kept.
        precision: of all of them; None for what suits each and the device.
        queue_max: texts that may wait.
        warn: told in a sentence of what makes this server slower or less exact than it could be.

    Raises:
        ModelError: one cannot be had, by what went wrong.
        DeviceUnavailable: the GPU cannot be used.
    """
    encoders: list[E] = []
    entries = load_manifest(manifest)
    for name in dict.fromkeys(names):
        entry = entries.entry(name)
        chosen = placement.precision(entry, precision)
        if warning := placement.warning(chosen):
            warn(f"{name} in {chosen}: {warning}")
        built = ensure_built(entry, chosen, models_dir)
        encoders.append(
            kind.open(
                built,
                sessions=placement.sessions,
                threads=placement.threads,
                queue_max=queue_max,
                beside=encoders[0] if encoders else None,
                gpu=placement.gpu,
            )
        )
    return encoders
