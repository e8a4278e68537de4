"""List: what is on it, how fresh it is, whether its changes are published, and what senders ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from config.grafana.boards import Board
from config.grafana.panels import (
    COUNT,
    GREEN,
    PER_SECOND,
    RED,
    SECONDS,
    THIRD,
    YELLOW,
    About,
    Query,
    figure,
    series,
)
from config.grafana.promql import quantile, rate

if TYPE_CHECKING:
    from config.grafana.panels import Made

_FRESH: Final = "operate.md#how-fresh-the-list-is"
_PUBLISHES: Final = "deploy.md#which-worker-publishes-the-changes"
_ROLES: Final = "operate.md#a-role-rabbitmq-or-the-database-does-not-answer"
_RETENTION: Final = "privacy.md#retention"
_OF_SENDERS: Final = 'route!~".* /console.*"'
"""Not the console's pages, which the same role serves."""
_AGE: Final = "bridge_event_age_seconds"


def suppression_list() -> Board:
    return Board(
        uid="bridge-list",
        title="Bridge: list",
        says="The suppression list: what is on it, how fresh it is, its changes, and the API that senders ask.",
        rows=[
            ("", _now()),
            ("What is on it", _entries()),
            ("Its changes, published", _changes()),
            ("The API", _api()),
            ("The database", _database()),
        ],
    )


def _now() -> list[Made]:
    return [
        figure(
            About(
                "Addresses on the list",
                "Entries of all reasons, counted each minute. A sudden step is an import, an erasure, or a mailing that went wrong.",
                "operate.md#finding-out-why-an-address-is-on-the-list",
            ),
            Query("sum(max by (reason) (bridge_list_entries))"),
            unit=COUNT,
        ),
        figure(
            About(
                "How far the list is behind",
                "Checks of the list know every event up to so long ago. A few seconds is normal. It grows while an event waits anywhere, "
                "also as a dead letter: `bridge status` says where.",
                _FRESH,
            ),
            Query("time() - max(bridge_list_fresh_as_of_timestamp_seconds > 0)"),
            unit=SECONDS,
            limits=[(300, YELLOW), (3600, RED)],
            no_value="no report yet",
        ),
        figure(
            About(
                "Does a worker publish the changes?",
                "No: nobody holds the lease, and those who follow the list learn nothing new. See the workers' logs, and whether one that "
                "hangs holds it: another takes over when that one ends.",
                _PUBLISHES,
            ),
            Query("clamp_max(sum(bridge_outbox_lease), 1)"),
            unit=COUNT,
            states={"0": ("No", RED), "1": ("Yes", GREEN)},
        ),
        figure(
            About(
                "APIs that answer",
                "0: senders cannot ask whom they may write to. They should wait, and not send. See `docker compose ps` and the log of the API.",
                _ROLES,
            ),
            Query('sum(up{job="api"})'),
            unit=COUNT,
            states={"0": ("none", RED)},
            no_value="none",
        ),
    ]


def _entries() -> list[Made]:
    return [
        series(
            About(
                "Entries, by reason",
                "A sudden step is an import, an erasure, or a mailing that went wrong: `bridge suppressions history` says who changed an "
                "address, and why.",
                "operate.md#finding-out-why-an-address-is-on-the-list",
            ),
            Query("max by (reason) (bridge_list_entries)", "{{reason}}"),
            unit=COUNT,
            stacked=True,
            width=THIRD,
        ),
        series(
            About(
                "Changes by events a second",
                "Entries that events have added or updated, and those that have ended and were taken off.",
                "operate.md#which-events-suppress-and-for-how-long",
            ),
            Query(
                rate("bridge_events_handled_total", by="outcome", where='outcome=~"added|updated"'),
                "{{outcome}}",
            ),
            Query(rate("bridge_list_expired_total"), "ended"),
            unit=PER_SECOND,
            width=THIRD,
        ),
        series(
            About(
                "Age of an event when it is on the list",
                "From the time at which the bounce or complaint happened until the list has it. Receive shows the part that is the "
                "provider's own delay.",
                _FRESH,
            ),
            Query(quantile(0.5, _AGE, where='stage="handled"'), "half"),
            Query(quantile(0.99, _AGE, where='stage="handled"'), "all but 1 in 100"),
            unit=SECONDS,
            limits=[(900, RED)],
            width=THIRD,
        ),
    ]


def _changes() -> list[Made]:
    return [
        series(
            About(
                "Changes published a second",
                "To suppression.changes, for those who follow the list. A first import of a million rows is a million of them.",
                _PUBLISHES,
            ),
            Query(rate("bridge_changes_relayed_total"), "published"),
            unit=PER_SECOND,
            width=THIRD,
        ),
        series(
            About(
                "Changes that wait",
                "Not published yet. Normally none; after an import as many as it had rows, and then fewer and fewer.",
                _PUBLISHES,
            ),
            Query("max(bridge_outbox_changes)", "waiting"),
            unit=COUNT,
            width=THIRD,
        ),
        series(
            About(
                "Age of the oldest change that waits",
                "Above a minute an alert fires: RabbitMQ cannot be reached or is blocked, or no worker holds the lease. See `/readyz` of the "
                "workers.",
                _PUBLISHES,
            ),
            Query("max(bridge_outbox_oldest_seconds)", "oldest"),
            unit=SECONDS,
            limits=[(60, RED)],
            width=THIRD,
        ),
    ]


def _api() -> list[Made]:
    return [
        series(
            About(
                "Answers a second, by status",
                "5xx: the list's database does not answer, or something has failed: see `/readyz` and the log of the API. 401 and 403: a "
                "token is wrong, or may not do this. 429: a sender asks faster than `api.rate` allows.",
                "api.md#problems",
            ),
            Query(rate("bridge_api_answers_total", by="status", where=_OF_SENDERS), "{{status}}"),
            unit=PER_SECOND,
            stacked=True,
            width=THIRD,
        ),
        series(
            About(
                "Answers a second, by token",
                "Who asks, by the name of the token. A sender that should ask and does not may be sending without asking.",
                "api.md#tokens",
            ),
            Query(rate("bridge_api_answers_total", by="token", where=_OF_SENDERS), "{{token}}"),
            unit=PER_SECOND,
            stacked=True,
            width=THIRD,
        ),
        series(
            About(
                "Addresses checked a second, by result",
                "suppressed: the mail is not to be sent. A share that jumps: a mailing to an old list, or an import that was wrong.",
                "api.md#check-before-each-mailing",
            ),
            Query(rate("bridge_api_addresses_checked_total", by="result"), "{{result}}"),
            unit=PER_SECOND,
            stacked=True,
            width=THIRD,
        ),
        series(
            About(
                "Time to answer, by route",
                "All but one in a hundred. Requests that wait for changes wait on purpose, and are counted, too.",
                "api.md#problems",
            ),
            Query(quantile(0.99, "bridge_api_answer_seconds", by="route", where=_OF_SENDERS), "{{route}}"),
            unit=SECONDS,
            width=THIRD * 3,
        ),
    ]


def _database() -> list[Made]:
    return [
        series(
            About(
                "Rows of tables that grow",
                "They grow with the mail that is sent, and are kept as long as `[retention]` says. One that only grows: the worker that "
                "deletes what is old does not get to it.",
                _RETENTION,
            ),
            Query("max by (table) (bridge_table_rows)", "{{table}}"),
            unit=COUNT,
            width=THIRD,
        ),
        series(
            About(
                "Rows deleted a second",
                "Because they were older than `[retention]` says. None for days, although it should be: see the log of the worker that "
                "publishes the changes, for that one deletes, too.",
                _RETENTION,
            ),
            Query(rate("bridge_pruned_rows_total", by="what"), "{{what}}"),
            unit=PER_SECOND,
            width=THIRD,
        ),
        series(
            About(
                "For how long a deletion holds its locks",
                "All but one in a hundred. Other writers wait meanwhile; it is kept below 0.05 s by smaller steps.",
                _RETENTION,
            ),
            Query(quantile(0.99, "bridge_prune_seconds"), "all but 1 in 100"),
            unit=SECONDS,
            limits=[(0.1, YELLOW)],
            width=THIRD,
        ),
    ]
