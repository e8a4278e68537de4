"""How a run is shown: to people on a terminal, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.programs.stack.ending import Totals
    from tests.programs.stack.promises import Promise
    from tests.programs.stack.proofs import Proof
    from tests.programs.stack.steps import Row
    from tests.programs.stack.suite import Report

COLUMNS: Final = (
    "under load", "answered 200", "of them spooled", "other answers", "no answer", "took, until healthy",
    "longest without `confirmed`", "",
)  # fmt: skip
ALERTS: Final = ("fault", "alert", "severity", "fired after", "cleared after", "")
_SHOWN: Final = 5
"""Of many that are wrong, how many are named."""


def of(report: Report) -> list[Table]:
    steps = Table(*COLUMNS)
    for row in report.rows:
        steps.add_row(*cells(row))
    tables = [steps]
    if report.proofs:
        alerts = Table(*ALERTS)
        for proof in report.proofs:
            alerts.add_row(*alert_cells(proof))
        tables.append(alerts)
    if report.totals is not None:
        bottom = Table("in all", "")
        for what, count in _totals(report.totals):
            bottom.add_row(what, count)
        tables.append(bottom)
    return tables


def markdown(report: Report) -> str:
    lines = _table(COLUMNS, map(cells, report.rows))
    if report.proofs:
        lines += ["", *_table(ALERTS, map(alert_cells, report.proofs))]
    if report.totals is not None:
        lines += ["", *_table(("in all", ""), _totals(report.totals))]
    return "\n".join([*lines, ""])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in (heads, *rows)]
    return [lines[0], f"|{'---|' * len(heads)}", *lines[1:]]


def cells(row: Row) -> tuple[str, ...]:
    answers = row.answers
    return (
        row.step,
        f"{answers.accepted:,}",
        f"{answers.spooled:,}",
        f"{answers.refused:,}",
        f"{answers.unanswered:,}",
        f"{row.seconds:.1f} s",
        f"{answers.gap:.1f} s",
        row.note,
    )


def alert_cells(proof: Proof) -> tuple[str, ...]:
    """Of what a fault has raised besides, the last cell says so."""
    return (
        proof.fault,
        proof.alert,
        proof.severity or "-",
        "-" if proof.fired is None else f"{proof.fired:.0f} s",
        "-" if proof.cleared is None else f"{proof.cleared:.0f} s",
        proof.wrong or ("" if proof.expected else "besides"),
    )


def line(promise: Promise) -> str:
    if not promise.broken:
        return f"kept: {promise.what}"
    return f"BROKEN: {promise.what}: {'; '.join(promise.broken)}"


def summary(report: Report) -> str:
    """One line; what is wrong comes first."""
    wrong = [
        *(line(promise) for promise in report.promises if promise.broken),
        *(f"{proof.alert} {proof.wrong} ({proof.fault})" for proof in report.proofs if proof.wrong),
        *([report.failure] if report.failure else []),
        *(f"left behind: {one}" for one in report.left_behind),
        *(_wrong(report.totals) if report.totals is not None else []),
    ]
    if report.totals is None:
        return "; ".join(wrong)
    totals = report.totals
    raised = sum(proof.expected and not proof.wrong for proof in report.proofs)
    counts = (
        f"{totals.counts.answered_200:,} answered 200, {len(totals.violations)} violations, "
        f"{len(report.rows)} steps, {raised} alerts"
    )
    return "; ".join([*wrong, counts])


def _wrong(totals: Totals) -> list[str]:
    shown, rest = totals.violations[:_SHOWN], len(totals.violations) - _SHOWN
    return [*shown, *([f"and {rest} violations more"] if rest > 0 else [])]


def _totals(totals: Totals) -> list[tuple[str, str]]:
    posted = totals.counts
    counts = {
        "posted": posted.posted - totals.unsent,
        "answered 200": posted.answered_200,
        "of them spooled": posted.durability.get("spooled", 0),
        "other answers": posted.otherwise_answered,
        "no answer": posted.unanswered - totals.unsent - totals.interrupted,
        "on their way when the load was stopped": totals.interrupted,
        "not even sent, the simulator being late": totals.unsent,
        "different events answered 200": posted.accepted,
        "of them arrived": posted.arrived,
        "lost": posted.accepted - posted.arrived,
        "duplicates": posted.duplicates,
        "arrived without an answer": posted.unasked,
        "entries of the list": totals.entries,
        "changes of the list published": totals.changes,
        "dead letters": totals.dead,
        "violations of the history": len(totals.violations),
    }
    return [
        *((what, f"{count:,}") for what, count in counts.items()),
        ("answered 200 a second, on average", f"{totals.rate:,.0f}"),
        ("all worked off, after the last event", f"{totals.seconds:.1f} s"),
    ]
