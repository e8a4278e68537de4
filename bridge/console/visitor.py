"""Who looks at a page, and what the token of the session may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.console.errors import ForbiddenError

if TYPE_CHECKING:
    from bridge.api.access import Caller


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever has signed in."""

    caller: Caller
    """The token of the session, as it is valid now."""
    session: str
    """The id of the session."""
    csrf: str
    """What each form must send back in the field `csrf`."""

    @property
    def name(self) -> str:
        """The name of the token."""
        return self.caller.name

    @property
    def actor(self) -> str:
        """The name in the change log."""
        return f"console:{self.caller.name}"

    def may(self, scope: str) -> bool:
        """Whether the token has this scope, one of `api_section.SCOPES`."""
        return self.caller.may(scope)

    def require(self, scope: str, purpose: str) -> None:
        """Nothing if the token has this scope.

        Args:
            scope: one of `api_section.SCOPES`.
            purpose: what needs it, such as "lifting a complaint", for the page.

        Raises:
            ForbiddenError: it does not have it.
        """
        if not self.may(scope):
            raise ForbiddenError(
                f"The token “{self.name}” has the scopes {', '.join(sorted(self.caller.scopes))}, and {purpose} needs "
                f"“{scope}”. Nothing was changed. Sign in with a token that has it."
            )


VISITOR: Final = web.RequestKey("console.visitor", Visitor)


def visitor_of(request: web.Request) -> Visitor:
    """Whoever has signed in; for pages that are for nobody else, which are all but sign-in and static files."""
    return request[VISITOR]
