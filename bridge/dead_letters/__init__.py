"""Messages that could not be handled: delay queues, dead letters, the quarantine, and how people read and move them.

- The worker moves a message on: `delay_queues` for the next attempt, `dead_letter_queue` (with `dead_letter_message`) when there is
  none. Both write its `history` into headers, with the keywords of `failure_reasons`;
- people read what lies there: `queue_reader` reads a queue, `dead_letter_description` and `quarantine` say what each message
  is;
- and move it: `republishing` publishes it again, `message_file` keeps what is discarded, and
  `kept_messages` reads it, so that it can be put back.
"""
