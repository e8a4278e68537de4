"""RabbitMQ in, suppression list out."""
