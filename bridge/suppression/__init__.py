"""The suppression list: the addresses that must not be written to, why, and a log of every change.

Five parts:

- what others use: `store` (all queries and changes), `changes` (the change log, and the outbox with its `lease`), `freshness` (how
  far the list may be behind), `entries`, `suppressing_events`, `errors`;
- the rules, without I/O: `policy` (which events suppress), `addresses` and `mailboxes` (one spelling for each mailbox),
  `address_keys` (under which key it is stored);
- files that come and go: `transfer`, a room of its own;
- the statements: `reading`, `writing` and `current_state`, many rows at once by `bulk`, on the tables of `model`;
- the databases: `opening` chooses one. `database` has what they share; `migrating` and `migrations` bring the tables up to date.
  SQLite: `sqlite`, `sqlite_file`, `sqlite_replacement`. PostgreSQL: `postgresql`, `postgresql_session`, `postgresql_url`,
  `privileges`, `sqlstates`, `tls_files`.
"""
