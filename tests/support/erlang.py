"""An Erlang shell that is connected to a RabbitMQ node: an expression costs milliseconds, `rabbitmqctl` a second of CPU."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PROGRAM: Final = """
Node = list_to_atom(os:getenv("RABBITMQ_NODENAME")),
Evaluate = fun(Text) ->
    {ok, Tokens, _} = erl_scan:string(Text),
    {ok, Parsed} = erl_parse:parse_exprs(Tokens),
    {value, Value, _} = rpc:call(Node, erl_eval, exprs, [Parsed, []], 60000),
    Value
end,
Serve = fun Next() ->
    case io:get_line("") of
        eof -> halt(0);
        Line ->
            {State, Found} =
                try {"ok", Evaluate(binary_to_list(base64:decode(string:trim(Line))))}
                catch _:Reason -> {"failed", Reason}
                end,
            Shown = unicode:characters_to_binary(io_lib:format("~0tp", [Found])),
            io:format("~s ~s~n", [State, base64:encode(Shown)]),
            Next()
    end
end,
Serve().
"""
"""Each line that it reads is an expression, each that it writes what came of it; it ends with its input."""

_ARGUMENTS: Final = (
    "-noshell", "-hidden", "-dist_listen", "false", "-kernel", "logger_level", "none", "-connect_all", "false",
    "+S", "1:1", "+sbwt", "none", "-eval", _PROGRAM,
)  # fmt: skip


class ErlangShell:
    """Use `connected`. One expression at a time, from any thread."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._turn = threading.Lock()

    @classmethod
    @contextmanager
    def connected(cls, environment: Mapping[str, str]) -> Iterator[Self]:
        """For as long as the context lasts, to the node which these variables name."""
        name = f"tests-{os.getpid()}-{id(environment)}@localhost"
        with subprocess.Popen(
            ["erl", "-sname", name, *_ARGUMENTS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        ) as process:  # fmt: skip
            yield cls(process)

    def evaluate(self, expression: str) -> str:
        """What an expression comes to on the node; fails with what Erlang says."""
        line = base64.b64encode(expression.encode("latin-1")) + b"\n"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(line)
            self._process.stdin.flush()
            state, _, shown = self._process.stdout.readline().partition(b" ")
        said = base64.b64decode(shown).decode()
        assert state == b"ok", said or "the Erlang shell has ended"
        return said
