"""`bridge suppressions import` and `export`, as a person or a program calls them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Protocol

import pytest
import typer
from typer.testing import CliRunner, Result

from bridge.cli import main, suppressions
from bridge.suppression.store import Store

if TYPE_CHECKING:
    from pathlib import Path

FILE = "EmailAddress,Reason,LastUpdateTime\nJane@x.org,BOUNCE,1539062173\nnobody,BOUNCE,1539062173\n"
LINE = "jane@x.org,hard_bounce,Jane@x.org,2018-10-09T05:16:13Z,2018-10-09T05:16:13Z,1,"


class Bridge(Protocol):
    def __call__(self, *arguments: str, stdin: str | None = None) -> Result: ...


@pytest.fixture
def bridge(database_url: str) -> Bridge:
    """`bridge suppressions …` on a database of its own, with an empty list."""
    app = typer.Typer()
    app.callback()(main.options)
    app.add_typer(suppressions.app, name="suppressions")
    environment = {"BRIDGE_SUPPRESSION__DATABASE_URL": database_url, "COLUMNS": "200"}

    async def make() -> None:
        async with Store.open(database_url):
            pass

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner(env=environment).invoke(app, ["suppressions", *arguments], input=stdin)

    asyncio.run(make())
    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ses.csv"
    path.write_text(FILE)
    return path


def test_an_import_says_what_it_did_and_an_export_has_it(bridge: Bridge, file: Path, tmp_path: Path) -> None:
    """People read a sentence, and why rows were rejected; the file that is exported is for its owner only."""
    result = bridge("import", str(file), "--dry-run")
    assert (result.exit_code, result.stdout) == (
        0,
        "ses.csv (Amazon SES), 2 rows: 1 would be added, 0 updated, 0 unchanged, 0 outdated, 1 rejected\n",
    )
    result = bridge("import", str(file), "--actor", "me")
    assert (
        result.stdout
        == "ses.csv (Amazon SES), 2 rows: 1 added, 0 updated, 0 unchanged, 0 outdated, 1 rejected\n"
    )
    assert result.stderr == "line 3: not an e-mail address: it has no @-sign\n"
    result = bridge("import", str(file))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "ses.csv was imported before, so that nothing was done; --again imports it anew\n"
    (change,) = json.loads(bridge("history", "jane@x.org", "--json").stdout)["items"]
    assert (change["action"], change["actor"], change["note"]) == ("added", "me", "import of ses.csv")
    output = tmp_path / "list.csv"
    output.write_text("an older one")
    assert bridge("export", "--output", str(output)).stdout == f"1 entries are in {output}\n"
    assert output.read_text().splitlines()[1].startswith(LINE)
    assert output.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in sorted(tmp_path.iterdir()) if "sqlite3" not in one.name] == [
        "list.csv",
        "ses.csv",
    ]


def test_programs_read_documents(bridge: Bridge, file: Path, tmp_path: Path) -> None:
    """The format of an export is that of its name; it is on standard output if no file is named."""
    rejected = tmp_path / "rejected.csv"
    document = json.loads(
        bridge("import", str(file), "--json", "--no-publish", "--rejected", str(rejected)).stdout
    )
    assert document == {
        "file": str(file), "source": "ses", "format": "csv", "dry_run": False, "already_imported": False, "resumed_at": 0,
        "rows": 2, "added": 1, "updated": 0, "unchanged": 0, "outdated": 0, "rejected": 1, "published": False,
        "rejected_file": str(rejected),
        "rejections": [{"line": 3, "because": "not an e-mail address: it has no @-sign"}],
    }  # fmt: skip
    assert (
        rejected.read_text().splitlines()[1]
        == "3,not an e-mail address: it has no @-sign,nobody,BOUNCE,1539062173"
    )
    output = tmp_path / "list.jsonl"
    document = json.loads(bridge("export", "--output", str(output), "--json").stdout)
    assert document == {"file": str(output), "format": "ndjson", "entries": 1}
    assert json.loads(output.read_text())["address"] == "jane@x.org"
    assert bridge("export").stdout.splitlines()[1].startswith(LINE)
    assert bridge("export", "--format", "ndjson").stdout == output.read_text()
    assert (
        len(
            bridge(
                "export", "--domain", "X.org", "--reason", "hard_bounce", "--search", "AN"
            ).stdout.splitlines()
        )
        == 2
    )
    for other in (("--domain", "y.org"), ("--reason", "manual"), ("--since", "2999-01-01")):
        assert len(bridge("export", *other).stdout.splitlines()) == 1


def test_standard_input_is_a_file(bridge: Bridge) -> None:
    """With `-`; what every row means may be said by --reason."""
    result = bridge("import", "-", "--reason", "complaint", stdin="email,created\nJ@x.org,1539062173\n")
    assert result.stdout.startswith("standard input (SendGrid), 1 rows: 1 added")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("import", "missing.csv"), 1, "missing.csv cannot be read: No such file or directory"),
        (("import", "/"), 1, "/ cannot be read: Is a directory"),
        (
            ("import", "{file}", "--rejected", "/nowhere/rejected.csv"),
            1,
            "/nowhere/rejected.csv cannot be written",
        ),
        (("import", "{file}", "--rejected", "{file}"), 1, "is the file that is imported"),
        (("import", "{file}", "--reason", "odd"), 2, "odd"),
        (("import", "{file}", "--format", "xml"), 2, "xml"),
        (("import",), 2, "FILE"),
        (("export", "--output", "/nowhere/list.csv"), 1, "/nowhere/list.csv cannot be written: No such file"),
        (("export", "--json"), 2, "--json needs --output"),
        (("export", "--domain", "a b"), 2, "--domain: "),
        (("export", "--since", "tomorrow"), 2, "tomorrow"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_an_exit_code(
    bridge: Bridge, file: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """2 for wrong arguments, 1 for files that cannot be used; nothing is on the list after it."""
    result = bridge(*(one.format(file=file) for one in arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert file.read_text() == FILE
    if code == 1:
        assert result.stderr.count("\n") == 1
    assert len(bridge("export").stdout.splitlines()) == 1


def test_a_file_that_is_no_list_changes_nothing(bridge: Bridge, file: Path) -> None:
    """One line says what is wrong, and where."""
    file.write_bytes(FILE.encode() + b"a\0@x.org,BOUNCE,1\n")
    result = bridge("import", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"bridge: {file}, line 4: it has NUL bytes: it is no text, or UTF-16 without a byte order mark\n"
    )
    assert len(bridge("export").stdout.splitlines()) == 1
