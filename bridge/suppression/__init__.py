"""The suppression list: the addresses that must not be written to, why, and a log of every change.

Five parts:

- what others use: `store`, which is the questions of `list_reader`, the changes of `list_writer`, and as attributes further parts
  (each a `list_part`): `allow_list`, `freshness` (how far the list may be behind), `erasing` (with `erased_texts` and `key_moves`),
  `hashing` (of a list that has kept addresses until now), `inquiries` and `browsing` (what people ask who look for somebody, or
  look through it), `expiry` (what ends), `retention` (what has grown old, by `pruning`, and by `pruning_walks` where some of it stays), and the outbox, which is in `changes`, with its `lease`. What goes in and comes out: `checking`,
  `announcements`, `entries`, `list_filter`, `additions`, `idempotency`, `suppressing_events`, `change`, `errors`. `rehearsal`
  tries another policy on a list of its own. `subscriber_registry` keeps who else gets events, in the same database;
- the rules, without I/O: `policy` (which events suppress, and for how long), `soft_bounces` (when there are enough), `addresses`
  and `mailboxes` (one spelling for each mailbox), `address_keys` (under which key it is stored);
- files that come and go: `transfer`, a room of its own;
- the statements: `reading`, `writing` (with `entry_rows`) and `current_state`, many rows at once by `bulk` (with
  `array_literals`), on the tables of `model`. `recording` is what an event does, with `soft_bounce_entries` (and `soft_bounce_rows`); `change_log` is written last;
- the databases: `opening` chooses one. `database` has what they share; `migrating` and `migrations` bring the tables up to date.
  SQLite: `sqlite`, `sqlite_file`, `sqlite_replacement`. PostgreSQL: `postgresql`, `postgresql_session`, `postgresql_url`,
  `postgresql_vacuum`, `privileges`, `sqlstates`, `tls_files`.
"""
