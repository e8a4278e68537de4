"""Every setting: its section, its type, and the sources that it is read from."""
