"""The alerts of config/prometheus/alerts.yml: which question each answers, and what each tells people to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

RULES: Final = Path(__file__).parents[1] / "prometheus" / "alerts.yml"

LOST: Final = (
    "BridgeReceiverAway",
    "BridgeRefusesEvents",
    "BridgeSpoolRefuses",
    "BridgeSpoolFills",
    "BridgeNoEvents",
)
LATE: Final = (
    "BridgeSpoolWaits",
    "BridgeWorkersBehind",
    "BridgeBackfillDue",
    "BridgeSubscriberBehind",
    "BridgeChangesWait",
    "BridgeListIsLate",
    "BridgeListIsBehind",
)
STUCK: Final = (
    "BridgeWorkerAway",
    "BridgeApiAway",
    "BridgeConsoleAway",
    "BridgeDatabaseAway",
    "BridgeRoleDown",
    "BridgeNoWorker",
    "BridgeRabbitMQAway",
    "BridgeBrokerAway",
    "BridgeBrokerBlocked",
    "BridgeEventsUnconfirmed",
    "BridgeDependencyFailed",
    "BridgeWorkerPauses",
    "BridgeMoveForgotten",
    "BridgeProviderRefusesToken",
    "BridgeCallHangs",
    "BridgeWorkerStuck",
    "BridgeNobodyPublishes",
    "BridgeSubscriberIdle",
)
"""Every other alert says that something is wrong."""

_ALERT: Final = re.compile(
    r'- alert: (\w+)\n(?:(?! +- alert).*\n)*?          description: ("[^"]+")\n', re.MULTILINE
)


def descriptions() -> dict[str, str]:
    """Alert -> what to do."""
    return {name: json.loads(text) for name, text in _ALERT.findall(RULES.read_text("utf-8"))}
