"""Make the dashboards of config/grafana/dashboards: `make dashboards`. With --check, only compare them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from config.grafana.boards import made
from config.grafana.broker import broker
from config.grafana.overview import overview
from config.grafana.receive import receive
from config.grafana.subscribers import subscribers
from config.grafana.suppression_list import suppression_list
from config.grafana.worker import worker

FOLDER: Final = Path(__file__).parent / "dashboards"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m config.grafana", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a file is out of date"
    )
    files = documents()
    if not parser.parse_args().check:
        for name, text in files.items():
            (FOLDER / name).write_text(text, "utf-8")
        return
    there = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    differing = sorted(name for name in {*there, *files} if there.get(name) != files.get(name))
    if differing:
        sys.exit(f"config/grafana/dashboards: {', '.join(differing)} out of date: make dashboards")


def documents() -> dict[str, str]:
    """File name -> the dashboard as JSON."""
    boards = (overview(), receive(), broker(), worker(), suppression_list(), subscribers())
    return {
        f"{board.uid.removeprefix('bridge-')}.json": json.dumps(made(board), cls=JSONEncoder, indent=1) + "\n"
        for board in boards
    }


if __name__ == "__main__":
    main()
