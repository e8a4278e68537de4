"""The one place where the rooms are wired into processes: each role from its settings to its orderly end."""
