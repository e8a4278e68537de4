"""The suppression list over HTTP, for senders and other services. It knows nothing of RabbitMQ.

- `server` listens; `application` has every endpoint, with its scope. `boundary` is around each request: who asks (`access`), what
  goes wrong (`problems`), and what is counted.
- What comes in: `bodies` reads JSON, `fields` checks its values and those of queries, `pages` knows filters and cursors.
- The endpoints: `checks`, `entries`, `changes`, `messages`, `allow`, `erasing`, `exporting`.
- For everybody: `description` serves the OpenAPI file `openapi`, and what `page` makes of it; `contract` what consumers of RabbitMQ
  can rely on, and what `contract_page` makes of it. Both pages are written in `html`.
- `open_list` has the list as soon as its database answers, and `freshness` keeps how far it may be behind.
"""
