"""HTTP in, durable out. It knows nothing of SQL, of the provider's API, or of suppression.

- `server` listens. Its connections are `connection` (fast path) or `plain_connection`; `body` reads what arrives in pieces;
- `handler` answers a request (`answers`, `access`), and `durability` makes its event durable within `deadline_queue`s;
- `traced_handler` takes the place of the handler where traces are recorded;
- `readiness`, `handler_metrics` and `rejection_log` report; `webhook_url` builds the URL that the provider has to post to.
"""
