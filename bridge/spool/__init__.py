"""The durable local queue of the receiver, for events that RabbitMQ cannot take now, and its drain."""
