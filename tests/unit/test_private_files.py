"""What is about persons is for nobody but whoever runs the bridge: under any umask, and where it stands already."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from bridge import private_files
from bridge.settings.sections import Spool as SpoolSettings
from bridge.spool import folder as spool_folder
from bridge.spool import stall, thread
from bridge.spool.claiming import claim_file
from bridge.spool.entries import SpoolEntry
from bridge.spool.errors import SpoolError, SpoolForeignError
from bridge.spool.spool import Spool
from bridge.spool.spool_file import SpoolFile
from bridge.suppression.store import Store
from tests.support.private import names, open_to_others, open_up

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65_534
PATIENCE_SECONDS = 90.0


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes a second or two has the file all the same before the spool is used, and before the next one is opened."""
    monkeypatch.setattr(stall, "STALLED_SECONDS", PATIENCE_SECONDS)
    for name in ("_OPENING_SECONDS", "_ENDING_SECONDS"):
        monkeypatch.setattr(thread, name, PATIENCE_SECONDS)


@pytest.fixture(params=[0o022, 0o000, 0o777], ids=oct, autouse=True)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool"


async def spooled(folder: Path) -> None:
    async with Spool.open(SpoolSettings(directory=folder, min_free_bytes=0)) as spool:
        assert spool.state.reason == ""
        await spool.put(1, b"an event")
        assert len(names(folder)) == 4, "the lock, the database, its log, the log's index"
        assert open_to_others(folder.parent) == []


async def test_a_spool_is_private(folder: Path) -> None:
    """The folder, those above it that were missing, and all four files, while it is in use."""
    await spooled(folder)


async def test_a_spool_of_an_earlier_release_is_made_private(folder: Path) -> None:
    """Also what was set aside in it, and what nobody has opened yet; it is used as before."""
    async with Spool.open(SpoolSettings(directory=folder, min_free_bytes=0)) as spool:
        await spool.put(1, b"an event")
    (folder / "spool-7.sqlite3.corrupt-1").touch()
    open_up(folder)
    with capture_logs() as logged:
        async with Spool.open(SpoolSettings(directory=folder, min_free_bytes=0)) as spool:
            assert spool.state.entries == 1
            assert open_to_others(folder) == []
    assert not [one for one in logged if one["action"] == "spool.open_to_others"]


async def test_a_folder_with_other_things_in_it_stays_as_it_is(folder: Path) -> None:
    """It may be somebody's home: our files in it are private all the same, and it is logged once."""
    private_files.make_folder(folder)
    (folder / "notes").touch()
    open_up(folder)
    async with Spool.open(SpoolSettings(directory=folder, min_free_bytes=0)) as spool:
        await spool.put(1, b"an event")
        assert open_to_others(folder) == [folder, folder / "notes"]


async def test_a_list_is_private(folder: Path) -> None:
    """The file, its log and the log's index; one that stood there before is made so, and one that was put back."""
    private_files.make_folder(folder)
    path = folder / "list.sqlite3"
    url = f"sqlite+aiosqlite:///{path}"
    async with Store.open(url) as store:
        await store.add("jane@example.org", actor="jo", note="")
        assert open_to_others(folder) == []
        assert names(folder) >= {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    path.chmod(0o644)
    async with Store.open(url) as store:
        await store.add("john@example.org", actor="jo", note="")
        assert open_to_others(folder) == []
        path.unlink()
        await store.add("jack@example.org", actor="jo", note="")
        assert path.exists()
        assert open_to_others(folder) == []


def test_what_is_somebody_elses_is_left_and_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends over it."""
    private_files.make_folder(folder)
    path = folder / "spool-0.sqlite3"
    path.touch()
    path.chmod(0o644)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    with capture_logs() as logged:
        spool_folder.make_private(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [one["files"] for one in logged] == [[str(path)]]


@contextmanager
def somebody_elses(*names: str) -> Iterator[Path]:
    """A folder of ours, and files in it that we may not open; root, who may open all, is somebody else meanwhile."""
    root = os.geteuid() == 0
    made = Path(tempfile.mkdtemp())
    try:
        for name in names:
            (made / name).touch()
            (made / name).chmod(0)
        made.chmod(0o700)
        if root:
            os.chown(made, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield made
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(made)


@pytest.mark.parametrize("name", ["spool-0.lock", "spool-0.sqlite3"])
def test_a_file_of_another_user_is_passed_over(name: str) -> None:
    """The next number is tried; that is logged, for whoever may open it has to drain it."""
    with somebody_elses(name) as folder, capture_logs() as logged:
        with closing(claim_file(folder, min_free_bytes=0)) as file:
            assert file.path.name == "spool-1.sqlite3"
            file.write([SpoolEntry(1, 1, b"an event")], ())
        assert [one["action"] for one in logged] == ["spool.foreign"]


@pytest.mark.parametrize("name", ["spool-0.lock", "spool-0.sqlite3"])
def test_whether_a_file_of_another_user_is_in_use_nobody_can_tell(name: str) -> None:
    """Whoever takes over what was left behind goes on with the other files; looking at them says why not."""
    with somebody_elses(name) as folder:
        path = folder / "spool-0.sqlite3"
        with pytest.raises(SpoolForeignError):
            SpoolFile(path, min_free_bytes=0)
        if name.endswith("lock"):
            with pytest.raises(match="another user's"):
                spool_folder.in_use(path)


def test_a_folder_that_takes_no_file_is_unusable() -> None:
    """That there is a file of another user in it is not the reason then."""
    with somebody_elses("spool-0.lock") as folder:
        folder.chmod(0o500)
        with pytest.raises(SpoolError, match="must exist and be writable"):
            claim_file(folder, min_free_bytes=0)
        folder.chmod(0o700)


@pytest.mark.parametrize("what", ["a folder", "a link to itself"])
def test_a_lock_that_is_no_file_is_passed_over(folder: Path, what: str) -> None:
    """Whatever stands there, the next number is tried."""
    private_files.make_folder(folder)
    lock = folder / "spool-0.lock"
    if what == "a folder":
        private_files.make_folder(lock)
    else:
        lock.symlink_to(lock)
    with closing(claim_file(folder, min_free_bytes=0)) as file:
        assert file.path.name == "spool-1.sqlite3"
