"""`rabbitmqctl` for a private node: what an operator does to a broker, and AMQP cannot."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALSO_LOOK_IN = "/usr/sbin:/usr/lib/rabbitmq/bin"


class Control:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def run(self, *arguments: str) -> str:
        """`rabbitmqctl ARGUMENTS...`; fails with what it says."""
        process = await asyncio.create_subprocess_exec(
            _program(), *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    async def evaluate(self, expression: str) -> str:
        """What an Erlang expression comes to on the node: several steps for the price of one start of the tool."""
        return await self.run("eval", expression)

    async def add_user(
        self,
        name: str,
        password: str,
        *,
        configure: str,
        write: str = ".*",
        read: str = ".*",
        topics: Mapping[str, str] | None = None,
    ) -> None:
        """A user who may configure, write and read what these patterns match; of a topic exchange, these keys."""
        allowed = "".join(
            f', rabbit_auth_backend_internal:set_topic_permissions(<<"{name}">>, <<"/">>, <<"{exchange}">>, '
            f'<<"{keys}">>, <<".*">>, <<"tests">>)'
            for exchange, keys in (topics or {}).items()
        )
        await self.evaluate(
            f'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"{password}">>, <<"tests">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"{name}">>, <<"/">>, <<"{configure}">>, '
            f'<<"{write}">>, <<"{read}">>, <<"tests">>){allowed}.'
        )

    async def close_connections(self, name: str) -> None:
        """As `rabbitmqctl close_connection` does, those of this name; others come and go meanwhile."""
        await self.evaluate(
            '[rabbit_networking:close_connection(P, "a test") || P <- rabbit_networking:connections(), '
            "[{client_properties, L}] <- [catch rabbit_reader:info(P, [client_properties])], is_list(L), "
            f'{{<<"connection_name">>, _, <<"{name}">>}} <- L].'
        )

    async def raise_alarm(self) -> None:
        """As if memory had run out: publishers are blocked."""
        await self.evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")

    async def clear_alarm(self) -> None:
        await self.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")


def _program() -> str:
    """The tool itself, not Debian's wrapper, which wants root and changes to the user `rabbitmq`."""
    found = shutil.which("rabbitmqctl") or shutil.which("rabbitmqctl", path=_ALSO_LOOK_IN)
    assert found is not None, "there is no rabbitmqctl beside rabbitmq-server"
    real = Path(found).resolve()
    return str(real.with_name("rabbitmqctl")) if real.name == "rabbitmq-script-wrapper" else found
