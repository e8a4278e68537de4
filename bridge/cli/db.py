"""`bridge db`: the revision of the list's database, the upgrade to the newest one, and the rights of the API's user."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from bridge.cli.console import fail, fails_with, print_json, settings_with_logs, terminal
from bridge.cli.help_epilog import LIST, page
from bridge.cli.options import AsJson
from bridge.suppression import opening
from bridge.suppression.errors import StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from bridge.settings.sections import Settings
    from bridge.suppression.migrating import Revisions

NEEDS_UPGRADE: Final = 3
"""Exit code of `status`: the database needs an upgrade."""

_AGAIN_SECONDS: Final = 0.5

app = typer.Typer(
    help="The database of the suppression list: show its revision, upgrade it, and give the API's user its rights.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=page("db status", *LIST),
    add_completion=False,
)


class DatabaseState(NamedTuple):
    database: str
    """Host, port and name; or a path."""
    revisions: Revisions


@app.command(epilog=page("db upgrade --wait 60", *LIST))
@fails_with(StoreError)
def upgrade(
    context: typer.Context,
    wait: Annotated[
        float, typer.Option(min=0.1, help="Seconds to keep trying while the database does not answer.")
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Upgrade the database to the newest revision. A PostgreSQL user must own the tables for that.

    Several processes may do so at once: one upgrades, the others wait for it. An SQLite file is upgraded whenever it is
    opened.
    """
    seen = asyncio.run(_upgrade(settings_with_logs(context, "error"), wait))
    before, newest = seen.revisions.current, seen.revisions.newest
    if as_json:
        print_json({"database": seen.database, "before": before, "revision": newest})
    elif before == newest:
        terminal.print(f"{seen.database} has revision {newest} already", highlight=False, markup=False)
    else:
        terminal.print(
            f"{seen.database} has revision {newest} now (before: {before or 'nothing'})",
            highlight=False,
            markup=False,
        )


@app.command(epilog=page("db grant bridge_api", *LIST))
@fails_with(StoreError)
def grant(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="A user of PostgreSQL, who exists already.")],
    as_json: AsJson = False,
) -> None:
    """Give a PostgreSQL user the rights that `bridge api` needs, and no others. To be run as the owner of the tables.

    Run it again after each upgrade.
    """
    name = asyncio.run(_grant(settings_with_logs(context, "error"), user))
    if as_json:
        print_json({"database": name, "user": user})
    else:
        terminal.print(f"{user} may be the API's user of {name}", highlight=False, markup=False)


@app.command(
    epilog=page(
        "db status --json",
        *LIST,
        codes={
            0: "it has the newest revision",
            1: "it could not be read, or has an unknown revision",
            NEEDS_UPGRADE: "it can be used after `bridge db upgrade`",
        },
    )
)
@fails_with(StoreError)
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the revision that the database has, and the newest; changes nothing.

    Exit code 0: it has the newest revision. 3: it needs `bridge db upgrade`. 1: it cannot be read, or a newer bridge wrote
    it.
    """
    seen = asyncio.run(_status(settings_with_logs(context, "error")))
    revisions = seen.revisions
    if as_json:
        print_json(_document(seen))
    else:
        terminal.print(
            f"{seen.database}: revision {revisions.current or 'none'}, newest {revisions.newest}",
            highlight=False,
            markup=False,
        )
    if not revisions.known:
        fail(f"{seen.database} has a revision that this bridge does not know: was it written by a newer one?")
    if not revisions.is_newest:
        raise typer.Exit(NEEDS_UPGRADE)


@app.command(epilog=page("db vacuum", *LIST))
@fails_with(StoreError)
def vacuum(context: typer.Context, as_json: AsJson = False) -> None:
    """Write the database anew, so that nothing of what was deleted is left in its files, and they get smaller.

    Meanwhile workers wait: some seconds for a list of a million. A PostgreSQL user must own the tables and the database for
    that: PostgreSQL's statistics have values of the list, too. If something of what was deleted has to stay, it says so
    and what to do, with exit code 1.
    """
    name = asyncio.run(_vacuum(settings_with_logs(context, "error")))
    if as_json:
        print_json({"database": name, "vacuumed": True})
    else:
        terminal.print(f"{name} was written anew", highlight=False, markup=False)


async def _vacuum(settings: Settings) -> str:
    async with opening.open_database(_url(settings), create=False) as database:
        await database.vacuum()
        return database.name


async def _upgrade(settings: Settings, wait: float) -> DatabaseState:
    async with opening.database_at(_url(settings)) as database:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailableError),
            stop=stop_after_delay(wait),
            wait=wait_fixed(_AGAIN_SECONDS),
            reraise=True,
        ):
            with attempt:
                database.check_before_connecting(create=True)
                before = await database.migrate()
        return DatabaseState(database.name, before)


async def _grant(settings: Settings, user: str) -> str:
    async with opening.database_at(_url(settings)) as database:
        database.check_before_connecting(create=False)
        await database.grant_api(user)
        return database.name


async def _status(settings: Settings) -> DatabaseState:
    async with opening.database_at(_url(settings)) as database:
        database.check_before_connecting(create=False)
        return DatabaseState(database.name, await database.revisions())


def _document(seen: DatabaseState) -> dict[str, Any]:
    current, newest = seen.revisions.current, seen.revisions.newest
    return {
        "database": seen.database,
        "revision": current,
        "newest": newest,
        "needs_upgrade": seen.revisions.known and current != newest,
    }


def _url(settings: Settings) -> str:
    return settings.suppression.database_url.get_secret_value()
