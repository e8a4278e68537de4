"""Every metric there is: its name, its labels and what it says. docs/reference/metrics.md has them in one table."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from bridge.telemetry.subscriber_metrics import SubscriberMetrics

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

    from bridge.telemetry.buffered import BulkHistogram

FAST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, for what normally takes milliseconds."""
SLOW_BUCKETS: Final = (*FAST_BUCKETS[2:], 30.0, 60.0, 300.0)
"""Seconds, for what may wait for a dependency."""
AGE_BUCKETS: Final = (
    1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 259_200.0, 604_800.0
)  # fmt: skip
"""Seconds, up to a week. Timestamps of events are whole seconds, so a finer first bucket would say nothing."""
SIZE_BUCKETS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)

RECEIVED, CONFIRMED, HANDLED = "received", "confirmed", "handled"
"""The stages of an event, for `event_age`."""


class MetricDefinitions(SubscriberMetrics):
    """All metrics. Each is made at its first use, so that a role shows only those that it uses."""

    @cached_property
    def build(self) -> Gauge:
        help_text = "1, with the version that runs"
        return self._gauge("bridge_build_info", help_text, "version", "python", multiprocess_mode="max")

    @cached_property
    def start_time(self) -> Gauge:
        help_text = "Unix time at which the role was started"
        return self._gauge("bridge_start_time_seconds", help_text, multiprocess_mode="livemin")

    @cached_property
    def ready(self) -> Gauge:
        help_text = "1 while the role can do its work, as /readyz says"
        return self._gauge("bridge_ready", help_text, multiprocess_mode="livemin")

    @cached_property
    def answers(self) -> Counter:
        return self._counter("bridge_answers", "Requests, by answer", "answer")

    @cached_property
    def tokens(self) -> Gauge:
        help_text = "Tokens that are valid now in the webhook's URL"
        return self._gauge("bridge_tokens", help_text, multiprocess_mode="livemin")

    @cached_property
    def admitted(self) -> Counter:
        help_text = "Requests with a valid token: the first of receiver.tokens, or another one"
        return self._counter("bridge_requests_admitted", help_text, "token")

    @cached_property
    def answer_seconds(self) -> BulkHistogram:
        return self._histogram("bridge_answer_seconds", "From a request's head to its answer", FAST_BUCKETS)

    @cached_property
    def received(self) -> Counter:
        return self._counter("bridge_events_received", "Events accepted, by name", "name")

    @cached_property
    def event_age(self) -> BulkHistogram:
        help_text = "From the timestamp of an event to the stage that it has reached"
        return self._histogram("bridge_event_age_seconds", help_text, AGE_BUCKETS, "stage")

    @cached_property
    def publishes(self) -> Counter:
        return self._counter("bridge_publishes", "Publishes to RabbitMQ, by outcome", "outcome")

    @cached_property
    def confirm_seconds(self) -> BulkHistogram:
        return self._histogram("bridge_confirm_seconds", "From a publish to RabbitMQ's confirm", FAST_BUCKETS)

    @cached_property
    def in_flight_messages(self) -> Gauge:
        return self._gauge("bridge_publisher_in_flight_messages", "Messages that wait for a confirm")

    @cached_property
    def in_flight_bytes(self) -> Gauge:
        return self._gauge("bridge_publisher_in_flight_bytes", "Bytes of the bodies that wait for a confirm")

    @cached_property
    def window_messages(self) -> Gauge:
        return self._gauge(
            "bridge_publisher_window_messages", "How many messages may wait for a confirm at once"
        )

    @cached_property
    def window_bytes(self) -> Gauge:
        return self._gauge("bridge_publisher_window_bytes", "How many bytes may wait for a confirm at once")

    @cached_property
    def broker_up(self) -> Gauge:
        help_text = "1 while the connection to RabbitMQ is open, by use"
        return self._gauge("bridge_broker_up", help_text, "use", multiprocess_mode="livemin")

    @cached_property
    def broker_state(self) -> Gauge:
        return self._gauge("bridge_broker_state", "Connections in this state, by use", "use", "state")

    @cached_property
    def connects(self) -> Counter:
        return self._counter("bridge_broker_connects", "Connections opened to RabbitMQ", "use")

    @cached_property
    def topology_refused(self) -> Gauge:
        help_text = "1 while RabbitMQ refuses to declare an exchange or queue as planned"
        return self._gauge("bridge_topology_refused", help_text, "name", multiprocess_mode="livemax")

    @cached_property
    def announced(self) -> Counter:
        help_text = "Messages that senders have announced by RabbitMQ, by outcome"
        return self._counter("bridge_messages_announced", help_text, "outcome")

    @cached_property
    def backfill_due(self) -> Gauge:
        help_text = "1 while the suppression queue is still to be filled from the archive"
        return self._gauge("bridge_backfill_due", help_text, multiprocess_mode="livemax")

    @cached_property
    def backfilled(self) -> Counter:
        return self._counter(
            "bridge_backfill_events", "Events published from the archive to the suppression queue"
        )

    @cached_property
    def spool_entries(self) -> Gauge:
        return self._gauge("bridge_spool_entries", "Events that wait in the spool")

    @cached_property
    def spool_bytes(self) -> Gauge:
        return self._gauge("bridge_spool_bytes", "Bytes in the spool")

    @cached_property
    def spool_limit_bytes(self) -> Gauge:
        return self._gauge("bridge_spool_limit_bytes", "Bytes that the spool may hold (spool.max_bytes)")

    @cached_property
    def spool_oldest_seconds(self) -> Gauge:
        help_text = "Age of the spool's oldest event"
        return self._gauge("bridge_spool_oldest_seconds", help_text, multiprocess_mode="livemax")

    @cached_property
    def spool_set_aside(self) -> Gauge:
        help_text = "Events in the spool that RabbitMQ refuses, by reason"
        return self._gauge("bridge_spool_set_aside_entries", help_text, "reason")

    @cached_property
    def spool_unconfirmed(self) -> Gauge:
        help_text = "Names of events of which RabbitMQ confirms nothing, although it is connected"
        return self._gauge("bridge_spool_unconfirmed_names", help_text, multiprocess_mode="livemax")

    @cached_property
    def spool_refusing(self) -> Gauge:
        help_text = "1 while the spool takes no events"
        return self._gauge("bridge_spool_refusing", help_text, multiprocess_mode="livemax")

    @cached_property
    def consumed(self) -> Counter:
        help_text = "Messages that RabbitMQ has delivered to the worker"
        return self._counter("bridge_events_consumed", help_text, "redelivered")

    @cached_property
    def unacknowledged_messages(self) -> Gauge:
        return self._gauge("bridge_unacknowledged_messages", "Messages delivered and not acknowledged yet")

    @cached_property
    def prefetch(self) -> Gauge:
        return self._gauge(
            "bridge_prefetch_messages",
            "How many messages RabbitMQ delivers before it waits for acknowledgements",
        )

    @cached_property
    def batch_size(self) -> BulkHistogram:
        return self._histogram("bridge_batch_events", "Events in one transaction", SIZE_BUCKETS)

    @cached_property
    def handling_seconds(self) -> BulkHistogram:
        return self._histogram(
            "bridge_handling_seconds", "From a delivery to its acknowledgement", SLOW_BUCKETS
        )

    @cached_property
    def handled(self) -> Counter:
        return self._counter("bridge_events_handled", "Messages that the worker has handled", "outcome")

    @cached_property
    def retries(self) -> Counter:
        help_text = "Messages put into a delay queue, by reason and delay in seconds"
        return self._counter("bridge_retries", help_text, "reason", "delay")

    @cached_property
    def dead_letters(self) -> Counter:
        return self._counter("bridge_dead_letters", "Messages moved to the dead letters, by reason", "reason")

    @cached_property
    def provider_calls(self) -> Counter:
        return self._counter("bridge_provider_calls", "Calls to the provider, by status", "status")

    @cached_property
    def provider_seconds(self) -> BulkHistogram:
        help_text = "Duration of a call to the provider, by status"
        return self._histogram("bridge_provider_call_seconds", help_text, SLOW_BUCKETS, "status")

    @cached_property
    def pauses(self) -> Counter:
        return self._counter("bridge_pauses", "Pauses of the circuit breakers, by dependency", "dependency")

    @cached_property
    def breaker_state(self) -> Gauge:
        help_text = "Circuit breaker of a dependency: 0 closed, 1 half-open, 2 open"
        return self._gauge("bridge_breaker_state", help_text, "dependency")

    @cached_property
    def oldest_call_seconds(self) -> Gauge:
        help_text = "Age of the oldest call to a dependency without an answer"
        return self._gauge("bridge_oldest_call_seconds", help_text, "dependency", multiprocess_mode="livemax")

    @cached_property
    def stuck(self) -> Counter:
        return self._counter(
            "bridge_worker_stuck", "Times that a part of the worker was found stuck", "component"
        )

    @cached_property
    def list_entries(self) -> Gauge:
        return self._gauge(
            "bridge_list_entries", "Entries of the suppression list, including expired ones", "reason"
        )

    @cached_property
    def fresh_as_of(self) -> Gauge:
        help_text = "Unix time until which every event that RabbitMQ had taken is on the list"
        return self._gauge("bridge_list_fresh_as_of_timestamp_seconds", help_text)

    @cached_property
    def list_expired(self) -> Counter:
        return self._counter(
            "bridge_list_expired", "Entries that have ended and were taken off the list", "reason"
        )

    @cached_property
    def table_rows(self) -> Gauge:
        help_text = "Rows of the list's tables that grow, shown by the worker that deletes what is old"
        return self._gauge("bridge_table_rows", help_text, "table", multiprocess_mode="livemax")

    @cached_property
    def pruned_rows(self) -> Counter:
        help_text = "Rows deleted, or without their evidence, because they were old ([retention])"
        return self._counter("bridge_pruned_rows", help_text, "what")

    @cached_property
    def prune_seconds(self) -> BulkHistogram:
        help_text = "For how long a transaction that deletes old rows has held its locks"
        return self._histogram("bridge_prune_seconds", help_text, FAST_BUCKETS)

    @cached_property
    def outbox_changes(self) -> Gauge:
        return self._gauge("bridge_outbox_changes", "Changes of the list that are not published yet")

    @cached_property
    def outbox_oldest_seconds(self) -> Gauge:
        return self._gauge(
            "bridge_outbox_oldest_seconds", "Age of the oldest change of the list that is not published yet"
        )

    @cached_property
    def outbox_lease(self) -> Gauge:
        return self._gauge("bridge_outbox_lease", "1 for the worker that holds the lease to publish changes")

    @cached_property
    def relayed(self) -> Counter:
        return self._counter("bridge_changes_relayed", "Changes of the list published")

    @cached_property
    def trace_spans(self) -> Counter:
        help_text = (
            "Spans of traces: sent to the OTLP receiver, or dropped, because it did not take them in time"
        )
        return self._counter("bridge_trace_spans", help_text, "outcome")

    @cached_property
    def api_answers(self) -> Counter:
        help_text = "Answers of the API, by route, status and name of the token"
        return self._counter("bridge_api_answers", help_text, "route", "status", "token")

    @cached_property
    def api_answer_seconds(self) -> BulkHistogram:
        help_text = "From a request's head to its answer, by route of the API"
        return self._histogram("bridge_api_answer_seconds", help_text, FAST_BUCKETS, "route")

    @cached_property
    def api_checked(self) -> Counter:
        return self._counter(
            "bridge_api_addresses_checked", "Addresses that the API was asked about", "result"
        )
