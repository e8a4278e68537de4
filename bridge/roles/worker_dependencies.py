"""The worker's dependencies beside RabbitMQ: which failures open their circuit breakers, and when a call hangs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.dead_letters.failure_reasons import DATABASE, PROVIDER
from bridge.worker import failures
from bridge.worker.dependencies import SLOW_SECONDS, Dependency

if TYPE_CHECKING:
    from typing import Self

    from bridge.settings.sections import Provider, Settings
    from bridge.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class WorkerDependencies:
    """The worker's dependencies beside RabbitMQ, each behind circuit breakers."""

    provider: Dependency
    database: Dependency

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> Self:
        failure_limit, max_pause = settings.worker.breaker_failures, settings.worker.pause_max
        return cls(
            Dependency(
                PROVIDER,
                failure_limit=failure_limit,
                max_pause=max_pause,
                metrics=metrics,
                slow_after=_longest_call(settings.provider),
                subject_errors=failures.ERRORS_OF_ONE_MESSAGE,
                common_errors=failures.ERRORS_OF_ALL_MESSAGES,
            ),
            # One failure is enough: it comes after the database's own wait for a lock.
            Dependency(
                DATABASE,
                failure_limit=1,
                max_pause=max_pause,
                metrics=metrics,
                slow_after=min(SLOW_SECONDS, settings.worker.stuck_after),
            ),
        )


def _longest_call(settings: Provider) -> float:
    """Seconds that a look-up can take: both URLs, with a pause for `Retry-After`."""
    return 2 * settings.timeout + settings.retry_after_max + SLOW_SECONDS
