"""Prometheus' own promtool: the rules as they are shipped, and any expression, over samples."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.tables import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROMTOOL = shutil.which("promtool")
RULES = ROOT / "config" / "prometheus" / "alerts.yml"

takes_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="there is no promtool here (Debian: apt-get install prometheus)"
)


def promtool(
    tests: Sequence[dict[str, Any]], directory: Path, *, every: str = "15s", rules: Sequence[Path] = (RULES,)
) -> str:
    """What it finds wrong; empty where all is as expected. JSON is YAML, too."""
    path = directory / "tests.json"
    path.write_text(
        json.dumps({"rule_files": [str(one) for one in rules], "evaluation_interval": every, "tests": tests})
    )
    assert PROMTOOL is not None
    said = subprocess.run([PROMTOOL, "test", "rules", path], capture_output=True, text=True, check=False)
    return "" if said.returncode == 0 else said.stdout + said.stderr
