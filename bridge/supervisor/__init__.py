"""Several receiver processes on one port, and the supervisor that starts, watches and stops them."""
