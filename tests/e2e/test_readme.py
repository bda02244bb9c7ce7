"""What the README promises."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_readme_python_example_streams_a_cited_answer(stack):
    """The example runs as it is printed, against a stack that `gannet up` started."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    environment = {**os.environ, "GANNET_TARGET": stack.target, "GANNET_API_KEY": stack.api_key}
    done = subprocess.run(
        [sys.executable, "-c", example], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[It dives from 30 metres and hits the water at 100 km/h.]" in done.stdout


def test_readme_links_and_targets_exist():
    """Every relative link leads somewhere, every make target that is named is there."""
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert [link for link in links if not (ROOT / link).exists()] == []
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) - targets - {"and"} == set()
