"""Every setting: its section, its type, and the sources from which it is read."""
