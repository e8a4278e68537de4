"""The worker: takes events from the suppression queue, and keeps the suppression list."""
