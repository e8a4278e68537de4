"""What a role tells the outside about itself: log events, metrics, health."""
