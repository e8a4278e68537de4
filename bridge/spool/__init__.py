"""The spool: the receiver's durable local queue for events that RabbitMQ cannot take now, and its drain.

Three parts:

- in the event loop: `spool` is what the receiver writes to. `jobs` is the way to the thread and back;
- in the spool's thread: `thread` runs the jobs on `own_file`, which recovers from failures of the disk. It has a
  `claimed_file` (`claiming`, `missing_file`), which is a `spool_file` (SQLite: `database`, `disk_space`, `folder`),
  `pending_removals`, and the `state`. `entry_traces` keeps the traces of its entries;
- the drain, in the event loop: `drain` has the `mover` publish the entries of the spool, and of `orphans`. Events that RabbitMQ
  refuses are set aside (`set_aside_entries`, in the file) and retried (`set_aside_retries`). What it is known to refuse is
  in `known_refusals`, in memory.

`listing` reads files for people, also those of other processes.
"""
