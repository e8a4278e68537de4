"""Several receivers on one port: processes, and the supervisor that starts, watches and ends them."""
