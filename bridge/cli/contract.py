"""`bridge contract`: writes down what other services can rely on, and compares it with what was written before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bridge.broker.topology import Names
from bridge.cli.console import fail, fails_with, print_json, settings_of, terminal
from bridge.cli.help_epilog import page
from bridge.cli.options import AsJson
from bridge.contract import comparison, files
from bridge.contract.exported import Contract, NotAContractError

_CHANGED = 2

app = typer.Typer(
    help="What other services can rely on: AsyncAPI, JSON Schemas and examples. Export and check it.",
    epilog=page("contract export contract"),
    no_args_is_help=True,
    add_completion=False,
)


@app.command(epilog=page("contract export contract", "BRIDGE_RABBITMQ__PREFIX"))
def export(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Is made if it is not there.")],
    as_json: AsJson = False,
) -> None:
    """Write the contract into a folder: `asyncapi.json`, the schemas, and an example of each message.

    It is made without RabbitMQ and without the database. The names in it are those of this installation, with its
    `rabbitmq.prefix`.
    """
    names = Names(settings_of(context).rabbitmq.prefix)
    try:
        left = files.export_contract(folder, names)
    except OSError as error:
        fail(f"{error.filename or folder} cannot be written: {error.strerror}")
    written = sorted(files.contract_files(names))
    version = Contract.of_this_bridge(names).version
    if as_json:
        print_json({"version": version, "files": written, "left": list(left)})
        return
    terminal.print(f"contract {version}: {len(written)} files in {folder}")
    for path in left:
        terminal.print(f"{folder / path} is of another version of the contract: remove it if nobody needs it")


@app.command(
    epilog=page(
        "contract check docs/contract",
        codes={
            0: "nothing breaks, or there is a new major version",
            1: "the folder holds no contract",
            _CHANGED: "something breaks, and is named; or the arguments are wrong",
        },
    )
)
@fails_with(NotAContractError)
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where `bridge contract export` has written one.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compare this bridge's contract with one that was exported, and name each change that breaks a consumer or a sender.

    A change that breaks takes a new major version of the contract.
    """
    old = Contract.read(folder)
    new = Contract.of_this_bridge(Names(old.prefix))
    breaking = comparison.breaking_changes(old, new)
    allowed = not comparison.breaks_the_rule(old, new)
    if as_json:
        print_json({"old": old.version, "new": new.version, "breaking": breaking, "allowed": allowed})
    else:
        for problem in breaking:
            terminal.print(problem)
    if not allowed:
        fail(
            f"{len(breaking)} changes break contract {old.version}: they take version {old.major + 1}.0.0",
            code=_CHANGED,
        )
    if not as_json:
        terminal.print(f"contract {new.version} keeps what {old.version} in {folder} promises" if not breaking
                       else f"contract {new.version} breaks {old.version}, as its new major version says")  # fmt: skip
