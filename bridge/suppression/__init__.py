"""The suppression list: the addresses that must not be written to, why, and a log of every change."""
