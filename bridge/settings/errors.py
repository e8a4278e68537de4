"""What is raised where settings are read or used, and are wrong."""


class InvalidSettingsError(ValueError):
    """The settings cannot be used. The message is one line that names the key and the problem."""
