"""RabbitMQ as the bridge uses it: topology, messages, the archive, the management API."""
