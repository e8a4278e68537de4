"""The doctor's check of the running roles: whether they were started with the settings that the file has now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp

from bridge.diagnostics import role_status
from bridge.diagnostics.finding import ok, skipped, warning
from bridge.roles.identity import identity_of

if TYPE_CHECKING:
    from bridge.diagnostics.finding import Finding
    from bridge.diagnostics.role_status import RoleStatus
    from bridge.settings.sections import Settings
    from bridge.settings.sources import Origin

_ADVICE: Final = (
    "start them anew, for a role reads its settings at its start; in Compose: "
    "docker compose up -d --wait --force-recreate receiver worker api"
)


async def answering_roles(settings: Settings) -> list[RoleStatus]:
    """The receivers, workers and APIs of this bridge that answer where the settings have them."""
    urls = role_status.health_urls(settings)
    async with aiohttp.ClientSession() as session:
        seen = role_status.without_others(
            await role_status.ask_all(session, urls), identity_of(settings.rabbitmq)
        )
    return [role for role in seen if not role.problem]


def places(settings: Settings) -> str:
    """Where they are looked for, for people."""
    return ", ".join(role_status.health_urls(settings))


async def settings_in_force(check: str, settings: Settings) -> Finding:
    """A settings file that was changed since a role's start is not in force there, and nothing else would say so."""
    answering = await answering_roles(settings)
    if not answering:
        return skipped(check, f"no role of this bridge answers at {places(settings)}")
    file = settings.origin.config
    stale = [f"the {role.kind} {role.url}" for role in answering if _is_stale(role, settings.origin)]
    if stale:
        return warning(
            check,
            f"{file} has other settings now than those that {' and '.join(stale)} started with",
            _ADVICE,
        )
    names = ", ".join(f"{role.kind} {role.url}" for role in answering)
    return ok(check, f"{names}: as {file} has them" if file else names)


def _is_stale(role: RoleStatus, origin: Origin) -> bool:
    """Two machines may have a file each; by the same name they are meant to be the same."""
    if origin.config is None or role.settings.get("file") != str(origin.config.absolute()):
        return False
    return role.settings.get("fingerprint") != origin.fingerprint
