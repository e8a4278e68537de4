"""`python -m bridge.supervisor` is one receiver process of a supervisor, which sends its config over standard input."""

from bridge import startup

startup.prepare()

from bridge.supervisor.child_main import main  # noqa: E402 -- loading it takes a part of a second

main()
