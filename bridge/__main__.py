"""The command `bridge`, and `python -m bridge`: nothing is loaded before signals are held back."""

from bridge import startup


def main() -> None:
    startup.prepare()
    from bridge.cli.main import main as command  # noqa: PLC0415 -- loading it takes a part of a second

    command()


if __name__ == "__main__":
    main()
