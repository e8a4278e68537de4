"""The spool: the receiver's durable local queue for events that RabbitMQ cannot take now, and its drain.

Three parts:

- in the event loop: `spool` is what the receiver writes to. `jobs` is the way to the thread and back;
- in the spool's thread: `thread` runs the jobs on `own_file`, which recovers from failures of the disk. It has a
  `claimed_file` (`claiming`, `replaced_file`), which is a `spool_file` (SQLite: `database`, `disk_space`, `folder`),
  `pending_removals`, and the `state`;
- the drain, in the event loop: `drain` has the `mover` publish the entries of the spool, and of `orphans`. What RabbitMQ
  refuses is kept in `refused_entries` (in the file), known to `refused_events` (in memory), and retried by
  `refused_retries`.

`listing` reads files for people, also those of other processes.
"""
