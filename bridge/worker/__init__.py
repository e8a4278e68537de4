"""The worker: takes events from the suppression queue, and keeps the suppression list.

The way of a delivery, and the modules that support it:

- `consumer` consumes the queue, with `consumer_metrics`. `unacknowledged` holds the deliveries until each has a
  `delivery_result`;
- `suppressor` handles them: it reads the event (`event_of_delivery`), finds the address (`address_lookup` asks the provider)
  and records it on the list. `failures` decides what a failed attempt means: a delay queue, the dead letters (by
  `tracked_publisher`), or a wait;
- `dependencies` are the provider and the database, each behind a `circuit_breaker`;
- `announcements` keeps the addresses that senders announce, so that no look-up is needed;
- `freshness` reports how old the events are that wait: `waiting_events` and `dead_letter_age` know of them;
- `expirer` takes entries off the list that have ended, `pruner` deletes what has grown old, `relay` publishes the changes of the
  list, and `backfill` refills the queue from the archive. Before its first change `change_bindings` sees to it that the changes
  reach those who follow them; `relay_refusals` says how long it waits after a failure;
- `event_traces` makes the spans of deliveries, and `change_publish` those of the changes that are published;
- `subscriber_watch` looks at the queues of other services; `subscriber_progress` tells from the looks how far one is behind;
- `watchdog` and its `progress_checks` notice a stuck worker. `readiness` and `list_metrics` show its state.
"""
