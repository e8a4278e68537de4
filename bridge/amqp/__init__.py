"""AMQP: one supervised connection, confirmed publishes, deliveries. Knows nothing of events."""
