"""`python -m bridge.supervisor` is one process of the crew; its order comes over standard input."""

from bridge import startup

startup.prepare()

from bridge.supervisor.child_main import main  # noqa: E402 -- loading it takes a part of a second

main()
