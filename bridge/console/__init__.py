"""The console: pages for people, served by the API under /console.

- `application` has every page; each page is a module of its own, and `parts` are what it needs. `navigation` lists them in their order.
- `boundary` is around each request: who is signed in (`sessions`, `visitor`), whether the request came from our own page, what
  goes wrong (`errors`), and the headers of every answer (`headers`).
- `rendering` makes an answer of a template; `notices` keep one sentence over a redirect; `dependencies` says which of RabbitMQ,
  the database and the provider is down.
- `address` (with `address_actions` and `address_words`) and `list_page` are the list's pages; `forms` has what all forms have.
- `jobs` go on after their page was answered; `job_pages` show them, and `job_forms` start them. `dead_letters`, with `letter_listings` (what was
  shown), `letter_actions`, `letter_words` and `undo_files`; `message_view` shows one message.
- `monitor` looks at everything every few seconds, once for all viewers: `trends` keep the last quarter of an hour, `standing` since
  when each problem stands, and `checkup` what bridge doctor finds. `overview` (with `verdict`, `advice` and `figures`) and `subscribers` show
  it, and `streams` keep them up to date. `live` is the tail.
- `archive`, with `archive_searches` and `archive_replay`.
- `static_files` serves style and scripts; those of others lie in static/vendor, with their licences (`make assets`).
"""
