"""Which worker runs which test, and when: what takes long first; what shares a slow start, one worker alone."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHARED_NODES: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "alarmed": (
            "test_alarm.py::",
            "test_link.py::test_an_alarm_of_the_broker_is_seen",
            "test_spooled_answers.py::test_a_blocked_connection_is_not_waited_for_and_nothing_is_lost",
            "test_status.py::test_with_the_management_api_nodes_and_alarms_are_seen",
        ),
        "tls_node": ("test_tls.py::",),
        "counting": ("test_topology_migration.py::", "test_queue_moves.py::"),
    }
)
"""Fixture of a node -> what is in the ids of the tests that take it. Each worker with one of them starts the node."""

_SHARED_STARTS: Final = ("test_testing_wheel.py", "test_console_frame.py")
"""Modules with a fixture that takes seconds. Each worker with one of their tests would make it."""

_LONG: Final = (
    "test_readme.py::",
    "test_dev_node.py::",
    "test_doctor_subscribers.py::",
    "test_subscriber_watch.py::",
    "test_rejecting_queues.py::",
    "test_everything_fails.py::",
    "test_api_contract.py::test_requests_that_are_made_up_find_no_failure",
    "test_contract_files.py::test_asyncapis_own_parser_reads_the_document",
    "test_alerts.py::test_each_alert_fires_as_its_text_says",
    "test_dashboards.py::",
    "test_spool_properties.py::",
    "test_set_aside_entries.py::test_no_entry_is_tried_more_often_because_others_pass",
)
"""What is in the ids of the tests that take several seconds. One that begins last leaves all other workers idle."""


class Scheduling(LoadScopeScheduling):
    """xdist's marks for groups do not work with this pytest: they change the ids of tests, which are fixed now."""

    def _split_scope(self, nodeid: str) -> str:
        return _shared_start(nodeid) or nodeid


def begins_first(nodeid: str) -> bool:
    """Whether it takes long, alone or together with those that share its start."""
    return _shared_start(nodeid) is not None or any(f"/{test}" in nodeid for test in _LONG)


def _shared_start(nodeid: str) -> str | None:
    return shared_node(nodeid) or next((one for one in _SHARED_STARTS if f"/{one}::" in nodeid), None)


def shared_node(nodeid: str) -> str | None:
    """The fixture of the node that this test shares with others."""
    for fixture, tests in SHARED_NODES.items():
        if any(f"/{test}" in nodeid for test in tests):
            return fixture
    return None
