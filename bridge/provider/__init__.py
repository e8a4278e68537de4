"""The e-mail provider (msndr): the client of its API."""
