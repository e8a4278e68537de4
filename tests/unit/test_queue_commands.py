"""`dead` and `quarantine` are one code: what a replay that is cut short says of the ids that it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from bridge.amqp.errors import BrokerUnavailableError
from bridge.cli.dead_letters_view import DEAD_LETTERS
from bridge.cli.quarantine_view import QUARANTINE
from bridge.cli.queue_commands import QueueCommands
from bridge.dead_letters.dead_letter_description import DeadLetter
from bridge.dead_letters.quarantine import QuarantinedBody
from bridge.operations.queue_messages import MessageList
from tests.support.manual import every_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.cli.queue_view import QueueView

LETTERS = [DeadLetter(f"id-{number}", "clicked", "malformed", "", 1, None, None, "") for number in range(3)]
BODIES = [QuarantinedBody(f"id-{number}", "no time", "clicked", "", None, 1) for number in range(3)]


class LostAfterOne:
    """Operations that lose RabbitMQ after the first message."""

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages

    async def select(self, wanted: Callable[[Any], bool], *, before_removal: bool) -> MessageList[Any]:
        assert before_removal
        found = [message for message in self._messages if wanted(message)]
        return MessageList(found, len(found), len(found))

    async def replay(
        self, wanted: Callable[[Any], bool], *, rate: float, moved: Callable[[Any], None]
    ) -> int:
        del rate
        moved(next(filter(wanted, self._messages)))
        raise BrokerUnavailableError("RabbitMQ is gone")


@pytest.mark.parametrize(
    ("view", "messages"), [(DEAD_LETTERS, LETTERS), (QUARANTINE, BODIES)], ids=["dead", "quarantine"]
)
def test_a_replay_that_is_cut_short_names_only_what_is_not_there(
    view: QueueView[Any], messages: list[Any], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """What it has not come to is still in the queue, and not `missing`; both commands say it alike."""
    commands = QueueCommands(cast("Any", LostAfterOne(messages)), view, as_json=True)
    with pytest.raises(BrokerUnavailableError):
        commands.replay(lambda _: True, ids=["id-0", "id-1", "id-9"], rate=100, dry_run=False)
    told = orjson.loads(capsysbinary.readouterr().out)
    assert (told["replayed"], told["finished"], told["missing"]) == (1, False, ["id-9"])


def test_dead_letters_and_quarantine_have_the_same_commands_and_options() -> None:
    """Who knows one of them knows the other."""
    options: dict[str, dict[str, set[str]]] = {"dead": {}, "quarantine": {}}
    for command in every_command():
        if command.path[0:1] in {("dead",), ("quarantine",)} and not command.is_group:
            opts = {name for option in command.parser.params for name in option.opts if name.startswith("--")}
            options[command.path[0]][command.path[1]] = opts
    assert options["dead"] == options["quarantine"]
    assert options["dead"].keys() == {"list", "show", "replay", "discard", "restore"}
