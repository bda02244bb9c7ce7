"""What is read from the environment: names for the options of `gannet`, and what `gannet up` hands to its children."""

import os
from collections.abc import Mapping

TARGET_VARIABLE = "GANNET_TARGET"
API_KEY_VARIABLE = "GANNET_API_KEY"
HOME_VARIABLE = "GANNET_HOME"
QDRANT_URL_VARIABLE = "QDRANT_URL"


def qdrant_url() -> str | None:
    """The user's Qdrant; None means that `gannet up` starts the embedded one."""
    return os.environ.get(QDRANT_URL_VARIABLE) or None


def child_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Our own environment with `additions` over it."""
    return {**os.environ, **additions}
