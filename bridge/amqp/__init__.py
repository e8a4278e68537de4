"""AMQP: a supervised connection, confirmed publishes, deliveries. It knows nothing of events."""
