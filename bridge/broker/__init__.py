"""RabbitMQ: the supervised connection, the topology, and the confirmed publisher."""
