"""Messages that could not be handled: delay queues, dead letters, the quarantine, and how people read and move them."""
