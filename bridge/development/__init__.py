"""For development only: `bridge dev`, a private RabbitMQ node, the simulator of the provider, traffic."""
