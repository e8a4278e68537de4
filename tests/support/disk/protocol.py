"""How whoever has a forgetful disk mounted talks to its server while it is."""

from __future__ import annotations

from typing import Final

SYNC_ATTRIBUTE: Final = "user.forgetful.sync"
"""An extended attribute. Setting it on the mounted folder puts everything on the disk that the kernel has written back."""

FULL_ATTRIBUTE: Final = "user.forgetful.full"
"""Setting it on the mounted folder to 1 leaves no room for anything more, to 0 room again."""
