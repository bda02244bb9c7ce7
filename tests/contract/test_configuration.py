"""The documentation of the settings."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_configuration_page_documents_every_setting():
    """docs/configuration.md is what `make config-docs` writes: no setting, bound or default is missing or old."""
    classes = re.findall(r"gannet_\w+\.config:\w+", (ROOT / "Makefile").read_text())
    assert len(classes) == 5
    written = subprocess.run(
        [sys.executable, "-m", "gannet_service.reference", *classes], capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs" / "configuration.md").read_text() == written.stdout
