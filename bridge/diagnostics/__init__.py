"""Diagnostics: the state of the bridge (status) and checks of its surroundings (doctor). They change nothing.

- `doctor` runs all checks, in the order in which to repair things. Each check returns a `finding`:
  - of RabbitMQ: `broker_checks`, `broker_alarms`, `broker_delivery_limit`, `broker_policies`, `broker_refusing_queues`,
    `broker_unconfirming_queues`, `broker_subscribers`;
    `broker_permission_probes` tries permissions for them;
  - of all else: `database_checks`, `provider_checks`, `machine_checks` (disk, limits of a process), `role_checks`;
- `status` combines `broker_status`, `role_status`, `spool_status` and `subscriber_status`; `problems` says what of it is wrong,
  and `counter_rates` what was counted between two looks.

`broker_connection` has the connections of both.
"""
