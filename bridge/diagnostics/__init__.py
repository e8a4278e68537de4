"""Diagnostics: the state of the bridge (status) and checks of its surroundings (doctor). They change nothing."""
