"""What an operator does by a command: dead letters, quarantine, replay, tail, suppression list."""
