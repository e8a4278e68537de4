"""What people do by a command: dead letters, quarantine, replay, tail."""
