"""The client of the e-mail provider's API (msndr)."""
