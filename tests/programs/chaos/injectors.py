"""Which function does a fault, and whose turn it has to wait for: two faults of one part come one after the other."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from tests.programs.chaos import faults_broker, faults_machines, faults_network, faults_others
from tests.programs.chaos.schedule import ALL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from tests.programs.chaos.schedule import Fault
    from tests.programs.chaos.stack import Stack

    Inject = Callable[[Stack, Fault], AbstractAsyncContextManager[None]]

_INJECTORS: Final[dict[str, Inject]] = {
    "kill": faults_machines.kill,
    "pause": faults_machines.pause,
    "power cut": faults_machines.power_cut,
    "clock": faults_machines.clock,
    "full disk": faults_machines.full_disk,
    "scale": faults_machines.scale,
    "cut": faults_network.cut,
    "slow": faults_network.slow,
    "alarm": faults_broker.alarm,
    "delete": faults_broker.delete,
    "provider": faults_others.provider,
}


@asynccontextmanager
async def injected(stack: Stack, fault: Fault) -> AsyncIterator[None]:
    """The fault is there until the context ends; then it is mended.

    Raises:
        SkippedError: it cannot be done.
        AssertionError: it cannot be mended.
    """
    async with AsyncExitStack() as turns:
        for name in sorted(_waits_for(stack, fault)):  # in one order, so that nobody waits for each other
            await turns.enter_async_context(stack.lock(name))
        async with _injector(fault)(stack, fault):
            yield


def _injector(fault: Fault) -> Inject:
    if fault.kind == "rights":
        return faults_broker.rights if fault.target == "rabbitmq" else faults_others.rights
    return _INJECTORS[fault.kind]


def _waits_for(stack: Stack, fault: Fault) -> set[str]:
    """Names of locks."""
    if fault.target == ALL:
        return {*stack.parts, "receivers", "workers"}
    if fault.kind == "power cut" and fault.target in stack.receivers:
        return {fault.target, "receivers"}  # one more of them would be on the same disk
    if fault.kind == "scale" and fault.argument == "down":
        return {fault.target, faults_machines.last_of(stack, fault.target)}
    if fault.kind in {"rights", "delete", "alarm"}:
        return {f"{fault.kind} of {fault.target}"}
    if fault.kind == "full disk":
        return {f"disk of {fault.target}"}
    return {fault.target}
