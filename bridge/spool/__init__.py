"""The spool: the receiver's durable local queue for events that RabbitMQ cannot take now, and its drain."""
