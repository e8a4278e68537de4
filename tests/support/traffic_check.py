"""The run's traffic check: each node that the tests start is watched, and a message that breaks the contract fails the run."""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, Final

import pytest

from bridge.development.private_node import PrivateNode
from tests.support.firehose import ERLANG_FLAGS, Firehose
from tests.support.traffic import Traffic

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

PREFIX_PROPERTY: Final = "prefix"
"""A test's own: what it puts in front of every name in RabbitMQ. By it a message is traced back to its test."""

_FLAGS_VARIABLE: Final = "ERL_ZFLAGS"
"""Erlang adds what is in it to its own arguments."""
_COUNTS: Final = "traffic_counts"
_MISMATCHES: Final = "traffic_mismatches"
_PREFIX: Final = re.compile(r"t[0-9a-f]{12}\.")


class TrafficCheck:
    """A plugin of pytest. In a run with several processes each watches the nodes that it starts, and the first one reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._traffic = Traffic()
        self._tests: dict[str, str] = {}
        """Prefix -> id of the test."""
        self._watching: dict[PrivateNode, Firehose] = {}
        self._patch = pytest.MonkeyPatch()

    def install(self) -> None:
        """From now on each node that this process starts is traced and watched, also when it is started again."""
        start, stop, kill = PrivateNode.start, PrivateNode.stop, PrivateNode.kill

        async def watched_start(node: PrivateNode) -> None:
            await start(node)
            self._watching[node] = firehose = self._firehose(node.url)
            await asyncio.to_thread(firehose.open)

        async def watched_stop(node: PrivateNode) -> None:
            await asyncio.to_thread(self._leave, node)
            await stop(node)

        async def watched_kill(node: PrivateNode) -> None:
            await asyncio.to_thread(self._leave, node)
            await kill(node)

        flags = f"{os.environ.get(_FLAGS_VARIABLE, '')} {ERLANG_FLAGS}"
        self._patch.setenv(_FLAGS_VARIABLE, flags.strip())
        self._patch.setattr(PrivateNode, "start", watched_start)
        self._patch.setattr(PrivateNode, "stop", watched_stop)
        self._patch.setattr(PrivateNode, "kill", watched_kill)

    def _firehose(self, url: str) -> Firehose:
        return Firehose(url, self._traffic.take, self._traffic.used)

    def _leave(self, node: PrivateNode) -> None:
        if firehose := self._watching.pop(node, None):
            firehose.close()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Which test has which prefix."""
        for name, value in report.user_properties:
            if name == PREFIX_PROPERTY:
                self._tests[str(value)] = report.nodeid

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController) -> None:
        """A process of the tests has ended: what it has found is added. One that was killed says nothing."""
        found = getattr(node, "workeroutput", {})
        self._traffic.add(found.get(_COUNTS, {}), found.get(_MISMATCHES, []))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """No test runs any more, and the nodes still do: see all that they were given."""
        for node in list(self._watching):
            self._leave(node)
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_COUNTS] = dict(self._traffic.counts)
            output[_MISMATCHES] = self._traffic.mismatches
        elif self._traffic.mismatches and session.exitstatus in {
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        }:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_unconfigure(self) -> None:
        """The class is as it was."""
        self._patch.undo()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """How many messages were compared; and the first ones that break the contract, with their tests."""
        counts = self._traffic.counts
        if not counts["all"]:
            return
        for mismatch in self._traffic.mismatches:
            terminalreporter.section("a message breaks the contract", sep="_", red=True)
            terminalreporter.write_line(self._test_of(mismatch))
            terminalreporter.write_line(mismatch)
        terminalreporter.write_line(
            f"traffic: {counts['bridge'] - counts['forged']:,} messages of the bridge compared with the contract, of "
            f"{counts['all']:,} in RabbitMQ; {counts['wrong']:,} break it; {counts['forged']:,} forged by tests; "
            f"{counts['us'] / 1e6:.1f} s of CPU"
        )

    def _test_of(self, mismatch: str) -> str:
        tests = {self._tests[prefix] for prefix in _PREFIX.findall(mismatch) if prefix in self._tests}
        return f"of {', '.join(sorted(tests))}" if tests else "of a test without a prefix of its own"
