"""The documentation of the settings."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text().splitlines()


def test_configuration_page_documents_every_setting():
    """docs/configuration.md is what `make config-docs` writes: no setting, bound or default is missing or old."""
    configs = next(
        line.partition(":=")[2] + following
        for line, following in zip(MAKEFILE, MAKEFILE[1:], strict=False)
        if line.startswith("CONFIGS")
    )
    written = subprocess.run(
        [sys.executable, "-m", "gannet_service.reference", *configs.replace("\\", " ").split()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ROOT / "docs" / "configuration.md").read_text() == written.stdout
