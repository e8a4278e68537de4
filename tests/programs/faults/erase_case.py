"""A person is erased beside a worker, and the erasure killed at any moment: made again, it leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from bridge.settings.list_sections import Suppression
from bridge.spool.entries import SpoolEntry
from bridge.spool.spool_file import SpoolFile
from bridge.suppression.address_keys import keys_of
from bridge.suppression.policy import Reason
from bridge.suppression.store import Store
from bridge.suppression.suppressing_events import SuppressingEvent
from tests.programs.faults.scene import HISTORY, Cast
from tests.support.commands import environment_without_settings
from tests.support.warm_starts import start_bridge

if TYPE_CHECKING:
    from pathlib import Path

    from tests.programs.faults.scene import Scene

PRIVACY_KEY: Final = "faults:a-secret-of-the-fault-suite-which-is-long-enough"
KEYS: Final = keys_of(Suppression.model_validate({"privacy_keys": [PRIVACY_KEY]}))
CAST: Final = Cast(
    settings={"suppression": {"privacy_keys": [PRIVACY_KEY]}},
    other_domains=("erase.example.org", "other.example.org", ""),
)

_PERSONS: Final = 4
_MESSAGES: Final = 300
"""To each of them: so many events, known messages and notes there are."""
_OTHERS: Final = 5_000
"""Messages to other people, which an erasure looks through."""
_KILLS: Final = 4
_LONGEST_SECONDS: Final = 1.5
"""An erasure takes about as long, with the start of its process."""
_TIMEOUT: Final = "?timeout=30"


async def erase_killed(scene: Scene) -> None:
    """Each person's erasure is killed several times, then made to its end: nothing in any file, and still suppressed."""
    persons = [f"jane{number}@erase.example.org" for number in range(_PERSONS)]
    spool = scene.directory / "spool-of-a-receiver-that-is-gone"
    await asyncio.to_thread(_fill_spool, spool)
    url = f"sqlite+aiosqlite:///{scene.list_file}{_TIMEOUT}"
    async with Store.open(url, create=False, keys=KEYS) as store:
        for number, person in enumerate(persons):
            await _fill(store, person, number)
        await store.remember({f"other-{number}": f"o{number}@other.example.org" for number in range(_OTHERS)})
    chance, killed = random.Random(), 0  # noqa: S311 -- of a test
    for person in persons:
        for _ in range(_KILLS):
            killed += not await _bridge(
                scene, spool, "suppressions", "erase", person, "--yes",
                seconds=chance.uniform(0.05, _LONGEST_SECONDS),
            )  # fmt: skip
        await _bridge(scene, spool, "suppressions", "erase", person, "--yes")
    await _bridge(scene, spool, "db", "vacuum")
    if not killed:
        raise AssertionError("no erasure was killed")
    async with Store.open(url, create=False, keys=KEYS) as store:
        allowed = [one.address for one in await store.check_many(persons) if one.allowed]
        erased = [len(await store.history(person)) for person in persons]
    if allowed or erased != [_MESSAGES + 1] * _PERSONS:
        raise AssertionError(f"of the erased {allowed} are not suppressed; changes of each: {erased}")
    left = await asyncio.to_thread(_files_with, scene.directory, b"@erase.example.org")
    if left or (await asyncio.to_thread(_files_with, spool, b'"gone-')):
        raise AssertionError(
            f"after {killed} kills the addresses or their events are still in {left or spool}"
        )


async def _fill(store: Store, person: str, number: int) -> None:
    events = [
        SuppressingEvent(
            person, Reason.HARD_BOUNCE, f"e-{number}-{one}", 1_700_000_000, f"m-{number}-{one}", b"raw"
        )
        for one in range(_MESSAGES)
    ]
    await store.record(events, actor="worker")
    await store.remember({f"gone-{number}-{one}": person.upper() for one in range(_MESSAGES)})
    await store.add(f"friend{number}@other.example.org", actor="ann", note=f"a friend of {person}")


def _fill_spool(folder: Path) -> None:
    """Events of each person's messages, and of somebody else's."""
    folder.mkdir()
    messages = [f"gone-{number}-{one}" for number in range(_PERSONS) for one in range(20)] + ["kept-1"]
    file = SpoolFile(folder / "spool-0.sqlite3", min_free_bytes=0)
    event = {"name": "opened", "timestamp": 1_700_000_000}
    bodies = [json.dumps({"message": {"id": message}, "event": event}).encode() for message in messages]
    file.write([SpoolEntry(number, 1, body) for number, body in enumerate(bodies, 1)], ())
    file.close()


async def _bridge(scene: Scene, spool: Path, *arguments: str, seconds: float | None = None) -> bool:
    """Run the command. Returns whether it came to its end; after so many seconds it is killed."""
    environment = environment_without_settings() | {
        "BRIDGE_SUPPRESSION__DATABASE_URL": f"sqlite+aiosqlite:///{scene.list_file}{_TIMEOUT}",
        "BRIDGE_SUPPRESSION__PRIVACY_KEYS": PRIVACY_KEY,
        "BRIDGE_SPOOL__DIRECTORY": str(spool),
    }
    process = await start_bridge(*arguments, cwd=scene.directory, env=environment)
    ending = asyncio.create_task(process.communicate())
    await asyncio.wait([ending], timeout=seconds)
    if not ending.done():
        with suppress(ProcessLookupError):  # it has ended at this moment
            process.kill()
    _, said = await ending
    status = await process.wait()
    if status not in {0, -signal.SIGKILL}:
        raise AssertionError(f"bridge {' '.join(arguments)} failed: {said.decode()}")
    return status == 0


def _files_with(folder: Path, text: bytes) -> list[str]:
    """The files of the list and the spool, and logs, in which the text is, in any case; not RabbitMQ's own, nor ours."""
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name != HISTORY and "rabbit-" not in str(path.relative_to(folder))
    ]
    return sorted(path.name for path in files if text in path.read_bytes().lower())
