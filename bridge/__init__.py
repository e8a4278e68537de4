"""From an e-mail provider's webhook into RabbitMQ, and from hard bounces to a suppression list."""
