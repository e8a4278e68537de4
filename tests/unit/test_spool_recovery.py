"""A corrupt spool file can be recovered as docs/operate.md says."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from bridge.spool.entries import SpoolEntry
from bridge.spool.listing import list_files
from bridge.spool.spool_file import SpoolFile
from tests.docs.tables import ROOT

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = 2000
PAGE_SIZE = 4096


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="SQLite's shell is not installed")
def test_the_documented_commands_recover_what_is_intact(tmp_path: Path) -> None:
    """Of a file with one damaged page, all other events come back, in a file that a receiver can drain."""
    path = tmp_path / "spool-0.sqlite3"
    file = SpoolFile(path, min_free_bytes=0)
    file.write([SpoolEntry(one, 1, b'{"n": %d}' % one + b" " * 500) for one in range(1, EVENTS + 1)], ())
    file.close()
    content = bytearray(path.read_bytes())
    content[PAGE_SIZE * 25 : PAGE_SIZE * 26] = b"\xff" * PAGE_SIZE
    path.write_bytes(content)
    SpoolFile(path, min_free_bytes=0).close()
    (renamed,) = (one.name for one in tmp_path.iterdir() if ".corrupt-" in one.name)

    page = (ROOT / "docs" / "operate.md").read_text()
    (commands,) = re.findall(
        r"^```sh\n(sqlite3 .*\n)bridge spool status\n```$", page, re.MULTILINE | re.DOTALL
    )
    subprocess.run(
        ["/bin/sh", "-c", re.sub(r"spool-0\S+corrupt-\S+", renamed, commands)], cwd=tmp_path, check=True
    )

    (recovered,) = (one for one in list_files(tmp_path) if one.contents is not None and one.contents.entries)
    assert recovered.contents is not None
    assert EVENTS * 0.98 < recovered.contents.entries < EVENTS
    file = SpoolFile(recovered.path, min_free_bytes=0)
    assert file.read(0, 1)[0].body.startswith(b'{"n": 1}')
    file.close()
