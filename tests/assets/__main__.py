"""`make assets`: copies the scripts and styles of others into the package, from what tests/node/package-lock.json locks."""

from __future__ import annotations

import shutil
import sys

from tests.support.npm_packages import NoNodeError, node_modules
from tests.support.vendored import FILES, FOLDER, different


def main() -> None:
    try:
        packages = node_modules()
    except NoNodeError as missing:
        sys.exit(f"assets: {missing}")
    changed = different(packages)
    for name in changed:
        shutil.copyfile(packages / FILES[name], FOLDER / name)
    sys.stdout.write(f"assets: {', '.join(changed) or 'nothing'} copied\n")


if __name__ == "__main__":
    main()
