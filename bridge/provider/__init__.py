"""The e-mail provider (msndr): a client of its API, and a simulator that serves the same API."""
