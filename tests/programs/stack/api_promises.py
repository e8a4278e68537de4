"""What the stack promises of its API: what it answers, and what it and its user of the database cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import aiohttp

from tests.programs.stack.engine import EngineError
from tests.programs.stack.settling import still_wrong

if TYPE_CHECKING:
    from tests.programs.stack.stack import Stack

_SERVICE: Final = "api"
_ANSWERING_SECONDS: Final = 60.0
_RESOLVE: Final = "import socket; print(socket.getaddrinfo('rabbitmq', 5672))"
_CONNECT: Final = "import socket; socket.create_connection(('{}', {}), 3)"
_PORTS: Final = (5672, 15672, 15692)
_QUERY: Final = "PGPASSWORD=$(cat /run/secrets/database_api_password) exec psql -h 127.0.0.1 -U bridge_api -d bridge -c '{}'"
_FORBIDDEN: Final = (
    "INSERT INTO handled_events VALUES ($$e$$, 1)",
    "UPDATE leases SET holder = $$me$$",
    "UPDATE freshness SET caught_up_to = 4e9",
    "DELETE FROM changes",
    "CREATE TABLE mine (id int)",
    "DROP TABLE suppressions",
)
_REFUSED: Final = ("permission denied", "must be owner")
_UNKNOWN: Final = "nobody-has-written@example.org"


async def no_way_to_rabbitmq(stack: Stack) -> list[str]:
    """Neither by its name nor by its address; and it is told no URL of it."""
    [api] = await stack.containers(_SERVICE)
    [rabbitmq] = await stack.inspect(one.id for one in await stack.containers("rabbitmq"))
    addresses = [network["IPAddress"] for network in rabbitmq["NetworkSettings"]["Networks"].values()]
    attempts = [_RESOLVE, *(_CONNECT.format(address, port) for address in addresses for port in _PORTS)]
    wrong = []
    for attempt in attempts:
        try:
            await stack.execute(api, "python", "-ISc", attempt)
        except EngineError:
            continue
        wrong.append(f"in the API this works: {attempt}")
    secrets = await stack.execute(api, "ls", "/run/secrets")
    return wrong + [f"the API has the secret {name}" for name in secrets.split() if "rabbitmq" in name]


async def least_rights(stack: Stack) -> list[str]:
    """Its user of the database is refused what is not its work."""
    [postgres] = await stack.containers("postgres")
    wrong = []
    for statement in _FORBIDDEN:
        try:
            await stack.execute(postgres, "sh", "-c", _QUERY.format(statement))
        except EngineError as error:
            if not any(words in str(error) for words in _REFUSED):
                wrong.append(f"{statement}: not refused for its rights, but: {error}")
        else:
            wrong.append(f"bridge_api may {statement}")
    return wrong


async def answering(stack: Stack) -> list[str]:
    """A sender's token checks and reads nothing; a wrong one is not let in. How fresh the list is, is soon known."""
    return await still_wrong(lambda: _otherwise_answered(stack), patience=_ANSWERING_SECONDS)


async def _otherwise_answered(stack: Stack) -> list[str]:
    document = {"addresses": [_UNKNOWN]}
    status, answer = await _ask(stack, "sender", "POST", "/v1/suppressions/check", document)
    wrong = []
    if status != 200 or not answer["results"][0]["allowed"] or not answer["fresh_as_of"]:
        wrong.append(f"a check of an address that nobody knows: {status} {answer}")
    for token, method, path, expected in (
        ("nobody", "POST", "/v1/suppressions/check", 401),
        ("sender", "GET", f"/v1/suppressions/{_UNKNOWN}", 403),
    ):
        status, answer = await _ask(stack, token, method, path, document)
        if status != expected:
            wrong.append(f"{method} {path} with the token '{token}': {status} {answer}")
    return wrong


async def says_no(stack: Stack) -> list[str]:
    """After all that was broken: an address of the list must not be written to."""
    listed = (await stack.bridge("suppressions", "list", "--limit", "100"))["items"]
    addresses = [entry["address"] for entry in listed]
    status, answer = await _ask(
        stack, "sender", "POST", "/v1/suppressions/check", {"addresses": [*addresses, _UNKNOWN]}
    )
    if status != 200 or not addresses:
        return [f"{len(addresses)} entries of the list are checked: {status} {answer}"]
    said = {one["address"]: one["allowed"] for one in answer["results"]}
    expected = dict.fromkeys(addresses, False) | {_UNKNOWN: True}
    return [
        f"{address}: allowed is {said.get(address)}"
        for address in expected
        if said.get(address) is not expected[address]
    ]


async def _ask(stack: Stack, token: str, method: str, path: str, document: Any) -> tuple[int, Any]:
    """The status and the document of an answer, from outside of the stack.

    Raises:
        EngineError: the API does not answer.
    """
    tokens = dict(one.split(":")[::2] for one in stack.secret("api_tokens").split(","))
    headers = {"Authorization": f"Bearer {tokens.get(token, 'no-token-of-this-stack')}"}
    address = (await stack.engine.compose("port", _SERVICE, "8081")).strip()
    try:
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, f"http://{address}{path}", json=document) as answer,
        ):
            return answer.status, await answer.json(content_type=None)
    except aiohttp.ClientError as error:
        raise EngineError(f"the API at {address} does not answer: {error}") from None
