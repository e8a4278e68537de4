"""What could not be handled: retries with delay queues, dead letters, and how they are read and moved."""
