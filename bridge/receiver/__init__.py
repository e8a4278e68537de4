"""HTTP in, durable out. It knows nothing of SQL, of the provider's API, or of suppression."""
