"""The bridge's contract on RabbitMQ: topology, messages, archive, and the management API."""
