"""What an operator does to a RabbitMQ node and AMQP cannot: through an Erlang shell where that is enough, else `rabbitmqctl`."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.support.erlang import ErlangShell

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ALSO_LOOK_IN = "/usr/sbin:/usr/lib/rabbitmq/bin"


class Control:
    def __init__(self, environment: Mapping[str, str], shell: ErlangShell | None = None) -> None:
        """Without a shell each step is a `rabbitmqctl`, which finds the node with these variables."""
        self._environment = environment
        self._shell = shell

    @classmethod
    @contextmanager
    def with_shell(cls, environment: Mapping[str, str]) -> Iterator[Self]:
        """For many steps."""
        with ErlangShell.connected(environment) as shell:
            yield cls(environment, shell)

    async def run(self, *arguments: str) -> str:
        """`rabbitmqctl ARGUMENTS...`; fails with what it says. Each costs a second of CPU."""
        process = await asyncio.create_subprocess_exec(
            _program(), *arguments,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    async def evaluate(self, expression: str) -> str:
        """What an Erlang expression comes to on the node."""
        if self._shell is None:
            return await self.run("eval", expression)
        return await asyncio.to_thread(self._shell.evaluate, expression)

    async def version(self) -> str:
        """Of RabbitMQ."""
        return (await self.evaluate("rabbit_misc:version().")).strip().strip('"')

    async def queues(self, prefix: str, *items: str) -> str:
        """Names, and such items as `messages_ready`, of the queues whose names begin so, in Erlang's notation."""
        return await self.evaluate(
            f'[Queue || Queue <- rabbit_amqqueue:info_all(<<"/">>, [{", ".join(("name", *items))}]), '
            "{resource, _, queue, Name} <- [proplists:get_value(name, Queue)], "
            f'string:prefix(Name, <<"{prefix}">>) =/= nomatch].'
        )

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
        await self.evaluate(
            f'rabbit_auth_backend_internal:add_user(<<"{name}">>, <<"{password}">>, <<"tests">>).'
        )
        await self.set_permissions(name, configure=configure, write=write, read=read)
        for exchange, keys in (topics or {}).items():
            await self.set_topic_permissions(name, exchange, keys)

    async def delete_user(self, name: str) -> None:
        await self.evaluate(f'rabbit_auth_backend_internal:delete_user(<<"{name}">>, <<"tests">>).')

    async def set_tags(self, user: str, *tags: str) -> None:
        """Such as `management`, without which the management API does not answer this user."""
        await self.evaluate(
            f'rabbit_auth_backend_internal:set_tags(<<"{user}">>, [{", ".join(tags)}], <<"tests">>).'
        )

    async def set_permissions(
        self, user: str, *, configure: str = ".*", write: str = ".*", read: str = ".*", host: str = "/"
    ) -> None:
        await self.evaluate(
            f'rabbit_auth_backend_internal:set_permissions(<<"{user}">>, <<"{host}">>, <<"{configure}">>, '
            f'<<"{write}">>, <<"{read}">>, <<"tests">>).'
        )

    async def set_topic_permissions(self, user: str, exchange: str, keys: str) -> None:
        """A user may publish to a topic exchange under the keys that match this."""
        await self.evaluate(
            f'rabbit_auth_backend_internal:set_topic_permissions(<<"{user}">>, <<"/">>, <<"{exchange}">>, '
            f'<<"{keys}">>, <<".*">>, <<"tests">>).'
        )

    async def add_virtual_host(self, name: str) -> None:
        """One in which `guest` may do everything."""
        await self.evaluate(f'rabbit_vhost:add(<<"{name}">>, <<"tests">>).')
        await self.set_permissions("guest", host=name)

    async def delete_virtual_host(self, name: str) -> None:
        await self.evaluate(f'rabbit_vhost:delete(<<"{name}">>, <<"tests">>).')

    async def set_policy(
        self, host: str, name: str, pattern: str, *, operator: bool = False, **definition: Any
    ) -> None:
        """A policy for the queues of a virtual host whose names match this; or an operator's policy."""
        function = "parse_set_op" if operator else "parse_set"
        written = json.dumps(json.dumps({key.replace("_", "-"): value for key, value in definition.items()}))
        await self.evaluate(
            f'ok = rabbit_policy:{function}(<<"{host}">>, <<"{name}">>, <<"{pattern}">>, '
            f'<<{written}>>, 0, <<"queues">>, <<"tests">>).'
        )

    async def import_definitions(self, definitions: Mapping[str, Any]) -> None:
        """Users, permissions, virtual hosts, as RabbitMQ imports them at its start."""
        written = json.dumps(json.dumps(definitions))
        await self.evaluate(
            f"{{ok, Definitions}} = rabbit_json:try_decode(<<{written}>>), "
            "ok = rabbit_definitions:import_parsed(Definitions)."
        )

    async def close_connections(self, name: str) -> None:
        """As `rabbitmqctl close_connection` does, those of this name; others come and go meanwhile."""
        await self.evaluate(
            '[rabbit_networking:close_connection(P, "a test") || P <- rabbit_networking:connections(), '
            "[{client_properties, L}] <- [catch rabbit_reader:info(P, [client_properties])], is_list(L), "
            f'{{<<"connection_name">>, _, <<"{name}">>}} <- L].'
        )

    async def raise_alarm(self) -> None:
        """As if memory had run out: who publishes after this is blocked."""
        # Setting it waits for nothing, and a publish may be faster: what is asked next is answered after every connection has it.
        await self.evaluate(
            "rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}), rabbit_alarm:get_alarms()."
        )

    async def clear_alarm(self) -> None:
        await self.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")

    async def set_memory_limit(self, share: float) -> None:
        """How much of the machine's memory RabbitMQ may use before it raises the alarm itself: if it uses more, the alarm is in force."""
        # Erlang reads no float without a point, such as Python's 1e-05. What is asked next: as in `raise_alarm`.
        await self.evaluate(
            f"vm_memory_monitor:set_vm_memory_high_watermark({share:.10f}), rabbit_alarm:get_alarms()."
        )


def _program() -> str:
    """The tool itself, not Debian's wrapper, which wants root and changes to the user `rabbitmq`."""
    found = shutil.which("rabbitmqctl") or shutil.which("rabbitmqctl", path=_ALSO_LOOK_IN)
    assert found is not None, "there is no rabbitmqctl beside rabbitmq-server"
    real = Path(found).resolve()
    return str(real.with_name("rabbitmqctl")) if real.name == "rabbitmq-script-wrapper" else found
