"""AMQP: a supervised connection, confirmed publishes, deliveries. It knows nothing of events.

- `connection` keeps a connection and runs a session on it; `errors` says what a loss is; `tls_files` checks its files;
- to publish: `publisher`, with `channel_keeper`, `publish_channel`, `publish_batch`, `nack_monitor`, `backoff` and
  `publish_errors`;
- to consume: `deliveries`, `temporary_queue`, `exclusive_lock`;
- messages: `message_types`, `properties`, `encoded_header`;
- the two paths through aio-pika and aiormq: `message_path` says what they have in common. The fast one is
  `aiormq_internals` with `wire`, `frames`, `frame_layout`, `confirm_frames` and `delivery_frames`; the other one is
  `plain_path`; both use `channels`.
"""
