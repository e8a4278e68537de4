"""Hard bounces as other programs than the provider's documentation write them; each says the same without a doubt."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def _bounce(
    *,
    message_id: str = "{id}",
    name: str = '"hard_bounced"',
    timestamp: str = "1539062173",
    data: str = "{}",
    before: bytes = b"",
) -> Callable[[int], bytes]:
    """A body by its parts, as they stand in JSON."""

    def body(number: int) -> bytes:
        about = message_id.replace("{id}", str(number))
        text = (
            f'{{"message":{{"id":{about}}},"event":{{"name":{name},"timestamp":{timestamp},"data":{data}}}}}'
        )
        return before + text.encode()

    return body


SPELLINGS: Final[Mapping[str, Callable[[int], bytes]]] = MappingProxyType(
    {
        "time as text": _bounce(timestamp='"1539062173"'),
        "time with a fraction of zero": _bounce(timestamp="1539062173.0"),
        "time in milliseconds": _bounce(timestamp="1539062173000"),
        "time in milliseconds as text": _bounce(timestamp='"1539062173123"'),
        "time as RFC 3339": _bounce(timestamp='"2018-10-09T08:16:13+03:00"'),
        "byte order mark": _bounce(before=b"\xef\xbb\xbf"),
        "lone surrogate": _bounce(data=r'{"text":"550 \ud83d"}'),
        "lone surrogate in a key": _bounce(data=r'{"\udc00":1}'),
        "name in another case": _bounce(name='"Hard_Bounced"'),
        "name with a hyphen": _bounce(name='"hard-bounced"'),
        "name with a space": _bounce(name='"HARD BOUNCED"'),
        "name with spaces around": _bounce(name='" hard_bounced "'),
        "data of PHP": _bounce(data="[]"),
        "data as text": _bounce(data='"550 no such user"'),
        "data as a list": _bounce(data='["550"]'),
        "number beyond all floats": _bounce(data='{"n":1e400}'),
        "id as text": _bounce(message_id='"{id}"'),
        "id with a fraction of zero": _bounce(message_id="{id}.0"),
    }
)
"""What is odd about it -> the body for a message."""
