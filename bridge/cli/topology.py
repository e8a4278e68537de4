"""`bridge topology`: compares, declares and exports the exchanges, queues and bindings."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.broker.declare_errors import TopologyMismatchError
from bridge.broker.definitions import definitions_of
from bridge.broker.queue_move import Patience
from bridge.cli.console import (
    BAD_USAGE,
    FAILED,
    fail,
    fails_with,
    on_terminal,
    print_json,
    print_to_stderr,
    settings_with_logs,
    terminal,
)
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.options import AsJson
from bridge.cli.topology_view import (
    diff_document,
    moved_documents,
    print_diff,
    print_moved,
    print_planned,
    print_pruned,
    print_strays,
    pruned_documents,
)
from bridge.operations import topology
from bridge.operations.topology_migration import migrate as migrate_queues
from bridge.operations.topology_users import UsersError, make_users

if TYPE_CHECKING:
    from bridge.broker.declaring import RefusedPart
    from bridge.operations.topology import Planned, Pruned
    from bridge.operations.topology_migration import Moved
    from bridge.settings.sections import Settings

DIFFERS = 2
"""Exit code of `plan`: something differs."""

app = typer.Typer(
    help="Exchanges, queues and bindings: plan, apply, export.",
    epilog=page("topology plan", *BROKER, "BRIDGE_SUBSCRIBERS"),
    no_args_is_help=True,
    add_completion=False,
)

Wait = Annotated[float, typer.Option(min=0.1, help="Seconds to keep trying while RabbitMQ does not answer.")]


@app.command(
    epilog=page(
        "topology plan",
        *BROKER,
        "BRIDGE_RABBITMQ__MANAGEMENT_URL",
        "BRIDGE_SUBSCRIBERS",
        codes={
            0: "nothing differs",
            1: "it cannot be told: RabbitMQ or the subscribers' registry cannot be read, or not all of it",
            DIFFERS: "something differs, or the arguments or the settings are wrong",
        },
    )
)
@fails_with(TopologyRefusedError, BrokerUnavailableError)
def plan(
    context: typer.Context,
    offline: Annotated[
        bool, typer.Option("--offline", help="Show all that is planned, without asking RabbitMQ.")
    ] = False,
    wait: Wait = 5.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document, for programs; offline what `export` prints.")
    ] = False,
) -> None:
    """Show how what stands in RabbitMQ differs from what is planned: missing (+), other arguments (~), not planned (-).

    Nothing is changed. Bindings and what is not planned can be seen by the management API only.
    """
    settings = settings_with_logs(context, "error")
    planned = _read_planned(settings)
    if offline:
        if as_json:
            print_json(definitions_of(planned.topology, settings.rabbitmq.virtual_host))
        else:
            print_planned(planned.topology)
        return
    diff = asyncio.run(topology.find_differences(settings, planned, wait=wait))
    if as_json:
        print_json(diff_document(diff, planned.note))
    else:
        print_diff(diff, planned.topology)
    if diff.unseen:
        print_to_stderr(diff.unseen)
    if not diff.is_empty:
        raise typer.Exit(DIFFERS)
    if diff.unseen or planned.note:
        raise typer.Exit(FAILED)


@app.command(
    epilog=page(
        "topology apply --wait 60",
        *BROKER,
        "BRIDGE_RABBITMQ__MANAGEMENT_URL",
        "BRIDGE_SUBSCRIBERS",
        codes={1: "RabbitMQ cannot be reached, or refuses a part, which is named"},
    )
)
@fails_with(TopologyRefusedError, BrokerUnavailableError)
def apply(
    context: typer.Context,
    *,
    wait: Wait = 5.0,
    migrate: Annotated[
        bool,
        typer.Option(
            "--migrate",
            help="Move each queue that `plan` shows with ~ to the planned arguments, without losing a message.",
        ),
    ] = False,
    patience: Annotated[
        float,
        typer.Option(min=0, help="With --migrate: seconds that consumers may hold messages of such a queue."),
    ] = 60.0,
    settle: Annotated[
        float,
        typer.Option(
            min=0,
            help="With --migrate: how old RabbitMQ's counts may be, in seconds. By default it counts every 5 s.",
        ),
    ] = 12.0,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove what `plan` shows with -, after a confirmation.")
    ] = False,
    with_messages: Annotated[
        bool,
        typer.Option("--with-messages", help="With --prune: also queues that have messages or consumers."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for a confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Declare everything, as a user of RabbitMQ with the permission `configure`. What exists as planned is not changed.

    What RabbitMQ refuses is named. The rest is declared all the same. A subscriber's queue that exists with other arguments is
    bound and named, and is no failure.
    """
    if with_messages and not prune:
        fail("--with-messages goes with --prune", BAD_USAGE)
    if prune and as_json and not yes:
        fail("--json needs --yes: there is nobody to confirm it", BAD_USAGE)
    settings = settings_with_logs(context, "error")
    planned = _read_planned(settings, say_note=prune or migrate)
    refused = asyncio.run(topology.apply(settings, planned.topology, wait=wait))
    moved: list[Moved] = []
    if migrate:
        moved = _migrate(settings, planned, Patience(settle=settle, stuck=patience), wait=wait)
        refused = asyncio.run(topology.apply(settings, planned.topology, wait=wait))
    pruned = _prune(settings, planned, with_messages=with_messages, yes=yes, wait=wait) if prune else []
    _print_applied(planned, refused, moved, pruned, as_json=as_json)


@app.command(epilog=page("topology export --users users > definitions.json", *BROKER, "BRIDGE_SUBSCRIBERS"))
@fails_with(UsersError)
def export(
    context: typer.Context,
    users: Annotated[
        Path | None,
        typer.Option(
            "--users",
            help="Also define a user for each role and subscriber; their passwords and URLs are made in this folder.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON in any case.")] = False,
) -> None:
    """Print definitions for `rabbitmqctl import_definitions`: everything that is planned, also registered subscribers.

    Each user may do its work and nothing else. The definitions have the hash of its password only.
    """
    del as_json
    settings = settings_with_logs(context, "error")
    planned = _read_planned(settings)
    made = make_users(settings, planned.topology, users) if users is not None else {}
    print_json(made | definitions_of(planned.topology, settings.rabbitmq.virtual_host))


def _read_planned(settings: Settings, *, say_note: bool = True) -> Planned:
    planned = asyncio.run(topology.read_planned(settings))
    if planned.note and say_note:
        print_to_stderr(planned.note)
    return planned


def _migrate(settings: Settings, planned: Planned, patience: Patience, *, wait: float) -> list[Moved]:
    diff = asyncio.run(topology.find_differences(settings, planned, wait=wait))
    if diff.unseen:
        fail(f"nothing was moved: {diff.unseen}")
    moving = migrate_queues(settings, planned.topology, diff, patience, print_to_stderr)
    try:
        return asyncio.run(moving)
    except KeyboardInterrupt:
        print_to_stderr("interrupted: nothing is lost; `bridge topology apply --migrate` goes on")
        raise


def _prune(
    settings: Settings, planned: Planned, *, with_messages: bool, yes: bool, wait: float
) -> list[Pruned]:
    diff = asyncio.run(topology.find_differences(settings, planned, wait=wait))
    if diff.unseen:
        fail(f"nothing was removed: {diff.unseen}")
    if not diff.strays:
        return []
    if not yes:
        print_strays(diff.strays)
        typer.confirm("Remove them?", abort=True, err=not on_terminal())
    return asyncio.run(topology.prune(settings, diff.strays, with_messages=with_messages, wait=wait))


def _print_applied(
    planned: Planned,
    refused: tuple[RefusedPart, ...],
    moved: list[Moved],
    pruned: list[Pruned],
    *,
    as_json: bool,
) -> None:
    differing, failed = _differing_of_subscribers(refused)
    exchanges, queues = len(planned.topology.exchanges), len(planned.topology.queues)
    if as_json:
        document: dict[str, Any] = {"exchanges": exchanges, "queues": queues, "refused": _problems(failed)}
        document |= {"differing": _problems(differing)} if differing else {}
        document |= {"moved": moved_documents(moved)} if moved else {}
        print_json(document | ({"pruned": pruned_documents(pruned)} if pruned else {}))
    else:
        print_moved(moved)
        print_pruned(pruned)
        for one in differing:
            print_to_stderr(str(one.error))
    if not_moved := [one for one in moved if one.refused]:
        fail("; ".join(dict.fromkeys(one.refused for one in not_moved)))
    if failed:
        fail("; ".join(str(one.error) for one in failed))
    if kept := [one.stray.name for one in pruned if one.kept]:
        fail(f"not removed: {', '.join(kept)}")
    if not as_json:
        terminal.print(f"{exchanges} exchanges, {queues - len(differing)} queues exist as planned")


def _differing_of_subscribers(
    refused: tuple[RefusedPart, ...],
) -> tuple[list[RefusedPart], list[RefusedPart]]:
    """Queues of subscribers that exist with other arguments, and all else that is refused.

    The former get their messages, so nobody need wait for them: the setup of a stack goes on.
    """
    differing = [
        one for one in refused if one.part.of_subscriber and isinstance(one.error, TopologyMismatchError)
    ]
    return differing, [one for one in refused if one not in differing]


def _problems(parts: list[RefusedPart]) -> list[dict[str, str]]:
    return [{"name": one.part.name, "problem": str(one.error)} for one in parts]
