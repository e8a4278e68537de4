"""`bridge subscribers`: adds, lists and removes queues of other services while everything runs."""

from __future__ import annotations

import asyncio
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import ValidationError
from rich.text import Text

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.cli.console import (
    BAD_USAGE,
    fail,
    fails_with,
    on_terminal,
    print_json,
    print_to_stderr,
    settings_with_logs,
    terminal,
)
from bridge.cli.help_epilog import BROKER, LIST, page
from bridge.cli.lists import Head, print_list, print_rows
from bridge.cli.options import AsJson, ListJson
from bridge.cli.suppressions_options import Actor
from bridge.cli.times import time_cell
from bridge.operations import subscribers as operations
from bridge.operations.subscribers import SubscriberError
from bridge.settings.subscribers import Subscriber, conflict
from bridge.settings.values import complaint_of
from bridge.suppression.errors import StoreError

if TYPE_CHECKING:
    from bridge.operations.subscribers import Added, Preview
    from bridge.suppression.subscriber_registry import RegisteredSubscriber

_ERRORS: Final = (SubscriberError, BrokerUnavailableError, TopologyRefusedError, StoreError)

app = typer.Typer(
    help="Queues of other services, while everything runs: add, list and remove them.\n\n"
    "Those of the settings ([[subscribers]]) are listed, too, and changed there.",
    epilog=page('subscribers add crm --events "opened,*bounced"', *BROKER, *LIST),
    no_args_is_help=True,
    add_completion=False,
)

Queue = Annotated[str, typer.Argument(help="The name of its queue, without rabbitmq.prefix.")]


@app.command(
    epilog=page(
        'subscribers add crm --events "opened,*bounced" --changes --max-length 1000000',
        *BROKER,
        *LIST,
        codes={
            1: "RabbitMQ or the database cannot be reached or refuses it, or there is such a subscriber or queue: nothing is "
            "added"
        },
    )
)
@fails_with(*_ERRORS)
def add(
    context: typer.Context,
    queue: Queue,
    *,
    events: Annotated[
        list[str] | None,
        typer.Option(
            "--events",
            metavar="NAMES",
            help="Names of events and patterns such as *bounced, with commas between; # is everything.",
        ),
    ] = None,
    changes: Annotated[bool, typer.Option("--changes", help="The changes of the list, too.")] = False,
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", help="Messages that it holds; beyond, its oldest are dead letters."),
    ] = None,
    ttl: Annotated[
        float | None, typer.Option("--ttl", help="Seconds after which a message is a dead letter.")
    ] = None,
    delivery_limit: Annotated[
        int | None,
        typer.Option("--delivery-limit", help="How often it is delivered again before it is a dead letter."),
    ] = None,
    single_active_consumer: Annotated[
        bool, typer.Option("--single-active-consumer", help="One consumer at a time, in order.")
    ] = False,
    as_it_is: Annotated[
        bool,
        typer.Option("--as-it-is", help="If the queue stands with other arguments, bind it as it is."),
    ] = False,
    actor: Actor,
    as_json: AsJson = False,
) -> None:
    """Declare a queue for a service, and one for its dead letters, and bind it: RabbitMQ routes to it from then on.

    No role is restarted. It is kept with the suppression list, and workers declare it again if it is deleted. To be run as a
    user of RabbitMQ with the permission `configure`, such as Compose's operator.
    """
    if not (events or changes):
        fail("give --events, or --changes, or both", BAD_USAGE)
    try:
        subscriber = Subscriber(
            queue=queue,
            events=tuple(name.strip() for given in events or () for name in given.split(",")),
            changes=changes,
            max_length=max_length,
            ttl=ttl,
            delivery_limit=delivery_limit,
            single_active_consumer=single_active_consumer,
        )
    except ValidationError as invalid:
        fail(complaint_of(invalid), BAD_USAGE)
    settings = settings_with_logs(context, "error")
    added = asyncio.run(operations.add(settings, subscriber, actor=actor, as_it_is=as_it_is))
    lines = _rights(added, settings.rabbitmq.virtual_host)
    if as_json:
        names = {"name": added.queue, "dead_letters": added.dead}
        print_json(added.registered.document() | names | {"remarks": added.remarks, "user": lines})
        return
    what = ", ".join([*subscriber.events, *(["the changes of the list"] if changes else [])])
    terminal.print(
        Text(f"queue '{added.queue}' gets {what} from now on; its dead letters are in '{added.dead}'")
    )
    for remark in added.remarks:
        print_to_stderr(f"note: {remark}")
    terminal.print(Text("a user of RabbitMQ who may read both, and nothing else (it asks for a password):"))
    for line in lines:
        terminal.print(Text(f"  {line}"))


@app.command(name="list", epilog=page("subscribers list --json", *LIST))
@fails_with(*_ERRORS)
def list_(context: typer.Context, *, as_json: ListJson = False) -> None:
    """Show the subscribers of the settings and those that were added; `bridge status` shows what waits in their queues."""
    settings = settings_with_logs(context, "error")
    registered = asyncio.run(operations.registered_subscribers(settings))
    of_settings = settings.subscribers
    documents = [
        one.model_dump(mode="json") | {"source": "settings", "state": "in force"} for one in of_settings
    ] + [one.document() | {"source": "registry", "state": _state(one, of_settings)} for one in registered]
    if as_json:
        print_list(documents, total=len(documents))
        return
    print_rows(
        (Head("Queue", whole=True), "Gets", "Limits", "From", Head("Since, UTC", min_width=10), "State"),
        [
            *((one.queue, _gets(one), _limits(one), "settings", "", "in force") for one in of_settings),
            *(
                (
                    one.subscriber.queue,
                    _gets(one.subscriber),
                    _limits(one.subscriber),
                    one.added_by,
                    time_cell(one.added_at),
                    _state(one, of_settings),
                )
                for one in registered
            ),
        ],
    )


@app.command(
    epilog=page(
        "subscribers remove crm",
        *BROKER,
        *LIST,
        codes={
            1: "it is not registered, or RabbitMQ or the database cannot be reached or refuses it; the line says what is left"
        },
    )
)
@fails_with(*_ERRORS)
def remove(
    context: typer.Context,
    queue: Queue,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete the queues of a subscriber that was added, with all that is in them, for good."""
    settings = settings_with_logs(context, "error")
    preview = asyncio.run(operations.preview_removal(settings, queue))
    if not yes:
        if as_json:
            fail("--json needs --yes: there is nobody to confirm it", BAD_USAGE)
        typer.confirm(f"{_loss(preview)}. Remove it?", abort=True, err=not on_terminal())
    messages = asyncio.run(operations.remove(settings, preview))
    if as_json:
        queues = [] if preview.stays else [one.queue for one in preview.standing]
        print_json({"removed": queue, "deleted": queues, "messages": messages})
    elif preview.stays:
        terminal.print(Text(f"{queue} is not registered any more; its queues stay, as the settings have it"))
    else:
        terminal.print(Text(f"{queue} was removed, with {messages:,} messages that waited"))


def _loss(preview: Preview) -> str:
    if preview.stays:
        return "its queues stay: the settings have it, too"
    if not preview.standing:
        return "its queues do not stand any more"
    queues = "; ".join(
        f"queue '{one.queue}' has {one.messages:,} messages that wait, and {one.consumers} consumers"
        for one in preview.standing
    )
    return f"{queues}; they are lost, and what the consumers hold, too"


def _rights(added: Added, virtual_host: str) -> list[str]:
    """The commands that make a user of RabbitMQ with the least rights: to read. To acknowledge or reject needs no more."""
    name, pattern = added.registered.subscriber.queue, added.queue.replace(".", r"\.")
    return [
        f"rabbitmqctl add_user {name}",
        rf"rabbitmqctl set_permissions -p {quote(virtual_host)} {name} '^$' '^$' '^{pattern}(\.dead)?$'",
    ]


def _state(one: RegisteredSubscriber, of_settings: tuple[Subscriber, ...]) -> str:
    if conflict(one.subscriber, of_settings) is not None:
        return "the settings have it, too"
    return "in force" if one.in_force else "unfinished: remove it"


def _gets(one: Subscriber) -> str:
    return ", ".join([*one.events, *(["changes"] if one.changes else [])])


def _limits(one: Subscriber) -> str:
    values: dict[str, Any] = {
        "max_length": one.max_length,
        "ttl": one.ttl,
        "delivery_limit": one.delivery_limit,
    }
    shown = [
        f"{name} {value:.10g}" if name == "ttl" else f"{name} {value}"
        for name, value in values.items()
        if value
    ]
    return ", ".join(shown + (["single_active_consumer"] if one.single_active_consumer else []))
