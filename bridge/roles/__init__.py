"""Wires the parts into processes: each role from its settings to its orderly shutdown."""
