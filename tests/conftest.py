"""One private RabbitMQ node and one PostgreSQL for each run; names, files, databases and ports of its own for each test."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import shutil
import signal
import tempfile
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aio_pika
import hypothesis
import pytest
import structlog
from yarl import URL

from bridge import fast_path
from bridge.development import private_node
from bridge.development.simulator_api import serve_simulator
from bridge.settings.loading import load_settings
from bridge.settings.sources import ENVIRONMENT_PREFIX
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics
from tests.support import stores
from tests.support.compiled import compiling
from tests.support.managed import Managed, managed_node
from tests.support.node import Control
from tests.support.npm_packages import NoNodeError, node_modules
from tests.support.postgres import DATA_VARIABLE, LentDatabases, Server, give, make_data
from tests.support.processes import Processes
from tests.support.rabbit import RETRY_DELAYS, Rabbit
from tests.support.scheduling import SHARED_NODES, Scheduling, begins_first, shared_node
from tests.support.traffic_check import PREFIX_PROPERTY, TrafficCheck
from tests.support.warm_starts import stop_server
from tests.support.working import Workplace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from xdist.remote import Producer

    from bridge.development.simulator import Simulator
    from bridge.settings.sections import Settings

NODE_VARIABLE = "TEST_RABBITMQ_URL"
"""How the run's controller tells pytest-xdist's workers where the node is."""
NODE_ENVIRONMENT_VARIABLE = "TEST_RABBITMQ_ENVIRONMENT"
"""JSON: with which variables `rabbitmqctl` finds the node."""
API_VARIABLE = "TEST_RABBITMQ_API"
"""The same for its management API."""
POSTGRESQL_VARIABLE = "TEST_POSTGRESQL_URL"
"""The same for the PostgreSQL: its superuser's URL."""
LISTS_VARIABLE = "TEST_EMPTY_LISTS"
"""The folder of the empty lists that are copied."""
TOKEN = "a-token-for-tests-1"
OTHER_TOKEN = "a-token-for-tests-2"

# No test asserts a time, and an example that a busy machine is slow at is none that fails.
# The same examples each time; others with `make test ARGS='--hypothesis-profile=other-examples'`.
hypothesis.settings.register_profile("untimed", deadline=None, derandomize=True)
hypothesis.settings.register_profile("other-examples", deadline=None)
hypothesis.settings.load_profile("untimed")

_NEVER_KILLED = "fsync = off\n"
"""Of the PostgreSQL that all share, and that no test crashes: to make and to drop a database takes half the time."""

gc.disable()
"""While tests are collected: hardly anything of a million objects becomes garbage, and looking for it takes a sixth of the CPU."""

_RUN = pytest.StashKey[tuple[asyncio.Runner, AsyncExitStack]]()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    """Whatever `--dist` says."""
    return Scheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """What the nodes of this process are given is held to the contract."""
    if _needs_broker(config):
        config.pluginmanager.register(check := TrafficCheck(config), "traffic-check")
        check.install()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """The controller starts both servers, before there are workers."""
    config = session.config
    if _has_workers(config):
        gc.enable()  # the workers collect
    # A shell has what runs in the background ignore the one, and nohup the other; and so would all that the tests start.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
    # As Ctrl-C: what the tests have started ends, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        del os.environ[name]  # what is set for a bridge that runs beside the tests is none of theirs
    if hasattr(config, "workerinput") or NODE_VARIABLE in os.environ or not _needs_broker(config):
        return
    runner, stack = asyncio.Runner(), AsyncExitStack()
    config.stash[_RUN] = runner, stack
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-tests-")))
    directory.chmod(0o711)  # PostgreSQL runs as another user where the tests run as root
    (directory / "postgresql").mkdir()
    give(directory / "postgresql")
    with compiling(config.args if _has_workers(config) else ()):
        runner.run(_start(stack, directory))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is quick, see that the scheduling knows who takes a node that is shared, and sort for it.

    All unit tests are quick; integration tests are where their module says so, and then they start no role.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if "unit" in item.path.parts:
            item.add_marker("quick")
        if item.get_closest_marker("quick") and "processes" in fixtures:
            raise pytest.UsageError(f"{item.nodeid} starts processes, and its module has the mark `quick`")
        for fixture in SHARED_NODES.keys() & fixtures:
            if shared_node(item.nodeid) != fixture:
                raise pytest.UsageError(f"SHARED_NODES does not name {item.nodeid}, which takes {fixture}")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: not begins_first(item.nodeid))


def pytest_collection_finish() -> None:
    """What stands now stays until the end: no search for garbage goes through it again."""
    gc.freeze()
    gc.enable()


async def _start(stack: AsyncExitStack, directory: Path) -> None:
    """Both at once: they wait for other things than each other."""
    node, postgres = await asyncio.gather(
        stack.enter_async_context(private_node.running_node(directory / "rabbitmq", management=True)),
        _start_postgresql(stack, directory / "postgresql"),
    )
    os.environ[NODE_VARIABLE] = node.url
    assert node.management_url is not None
    os.environ[API_VARIABLE] = node.management_url
    os.environ[NODE_ENVIRONMENT_VARIABLE] = json.dumps(dict(node.environment))
    os.environ[POSTGRESQL_VARIABLE] = postgres.url()


async def _start_postgresql(stack: AsyncExitStack, directory: Path) -> Server:
    """This run's; what other servers start with, which some tests break; and empty lists, to be copied."""
    data = directory / "data"
    await asyncio.to_thread(make_data, data)
    os.environ[DATA_VARIABLE] = str(data)
    server = await stack.enter_async_context(Server.running(settings=_NEVER_KILLED))
    await stores.make_empty_lists(server, directory)
    os.environ[LISTS_VARIABLE] = str(directory)
    return server


def pytest_unconfigure(config: pytest.Config) -> None:
    """The servers end with the run, whatever became of it."""
    stop_server()
    if _RUN in config.stash:
        runner, stack = config.stash[_RUN]
        runner.run(stack.aclose())
        runner.close()
        for name in (
            NODE_VARIABLE, NODE_ENVIRONMENT_VARIABLE, API_VARIABLE, POSTGRESQL_VARIABLE, DATA_VARIABLE, LISTS_VARIABLE
        ):  # fmt: skip
            os.environ.pop(name, None)


def _needs_broker(config: pytest.Config) -> bool:
    if config.option.collectonly or config.option.help:
        return False
    return not config.args or any("unit" not in Path(argument).parts for argument in config.args)


def _has_workers(config: pytest.Config) -> bool:
    """Whether pytest-xdist runs the tests in processes of their own."""
    return bool(config.getoption("numprocesses", None))


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Logging is the process's, and it has other tests to run: a command run in it lets only errors through from then on."""
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in (*logs._NOISY_LIBRARIES, "asyncio"))]
    handlers, levels = root.handlers[:], [one.level for one in loggers]
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)


@pytest.fixture(scope="session")
def amqp_url() -> str:
    """The private node of this run."""
    return os.environ[NODE_VARIABLE]


@pytest.fixture(scope="session")
def control() -> Iterator[Control]:
    """What an operator does to the private node of this run."""
    with Control.with_shell(json.loads(os.environ[NODE_ENVIRONMENT_VARIABLE])) as operator:
        yield operator


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    """The folder `node_modules` with what tests/node locks; who takes it is skipped where there is no Node."""
    try:
        return node_modules()
    except NoNodeError as missing:
        pytest.skip(str(missing))


@pytest.fixture
async def managed(amqp_url: str, control: Control, prefix: str) -> AsyncIterator[Managed]:
    """The node of this run with its management API, and a virtual host of this test's own.

    Where all the queues of all tests are, the API takes its time, and shows what it has kept.
    """
    host = f"{prefix}host"
    await control.add_virtual_host(host)
    yield Managed(str(URL(amqp_url).with_path(f"/{host}")), os.environ[API_VARIABLE], control)
    await control.delete_virtual_host(host)


@pytest.fixture(scope="session")
def alarmed() -> Iterator[Managed]:
    """Another node, for what would disturb every other test: alarms. One worker runs all that take it."""
    with managed_node() as node:
        yield node


@pytest.fixture(scope="session")
def counting() -> Iterator[Managed]:
    """Another node, whose management API knows new counts within a second or two. One worker runs all that take it."""
    with managed_node(quick_counts=True) as node:
        yield node


@pytest.fixture(scope="session")
def lent_databases() -> LentDatabases:
    """On the PostgreSQL of this run."""
    return LentDatabases(os.environ[POSTGRESQL_VARIABLE])


@pytest.fixture
async def postgresql_url(lent_databases: LentDatabases) -> AsyncIterator[str]:
    """A database of this test's own, with nothing in it, whose user may do everything."""
    async with lent_databases.lent() as url:
        yield url


@pytest.fixture(scope="session")
def empty_list_script() -> str:
    """What makes an empty list in PostgreSQL."""
    return Path(os.environ[LISTS_VARIABLE], stores.EMPTY_SCRIPT).read_text()


@pytest.fixture(scope="session")
def empty_list_file() -> Path:
    """An empty list on SQLite, to be copied."""
    return Path(os.environ[LISTS_VARIABLE], stores.EMPTY_FILE)


@pytest.fixture
async def postgresql_list(lent_databases: LentDatabases, empty_list_script: str) -> AsyncIterator[str]:
    """As `postgresql_url`, with an empty list in it."""
    async with lent_databases.lent(empty_list_script) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty list of this test's own, in either database; a test that takes it holds for both.

    Where a test or its module has the mark `no_list`, the list is still to be made.
    """
    empty = request.node.get_closest_marker("no_list") is None
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_list" if empty else "postgresql_url"))
    file = tmp_path / "list.sqlite3"
    if empty:
        shutil.copy(request.getfixturevalue("empty_list_file"), file)
    return f"sqlite+aiosqlite:///{file}"


@pytest.fixture(params=["fast", "plain"])
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """The path that this process takes (docs/internals.md); a test that uses this fixture runs on both."""
    fast_path.configure("auto" if request.param == "fast" else "off")
    yield str(request.param)
    fast_path.configure("auto")


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """In front of every name that this test declares."""
    own = f"t{uuid.uuid4().hex[:12]}."
    request.node.user_properties.append((PREFIX_PROPERTY, own))
    return own


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """The provider, over HTTP, that knows the messages 1 to 1000: recipient1@example.org and so on."""
    async with serve_simulator(messages=1000) as running:
        yield running


@pytest.fixture
def overrides(amqp_url: str, prefix: str, simulator: Simulator, tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Section -> name -> value: settings under which a role is alone on its queues, files and ports."""
    return {
        "rabbitmq": {
            "urls": [amqp_url],
            "prefix": prefix,
            "reconnect_max": 0.5,
            "connect_timeout": 20,  # on a busy machine RabbitMQ may need longer than 3 s for a connection
        },
        "receiver": {
            "host": "127.0.0.1",
            "port": 0,
            "tokens": [TOKEN, OTHER_TOKEN],
            "confirm_wait": 10,
        },
        "provider": {
            "base_url": simulator.base_url,
            "api_token": simulator.token,
            "rate": 1000,
            "backoff_max": 0.2,
            "unknown_grace": 1.0,
        },
        "worker": {"pause_max": 0.3, "retry_delays": list(RETRY_DELAYS)},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"},
        "spool": {"directory": f"{tmp_path}/spool"},
        "health": {"port": 0},
        "logs": {"level": "info", "format": "json"},
    }


@pytest.fixture
def settings(overrides: dict[str, dict[str, Any]]) -> Settings:
    """The overrides as the roles see them."""
    return load_settings(overrides=overrides)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def rabbit(amqp_url: str, prefix: str) -> AsyncIterator[Rabbit]:
    """The tests' own connection to the node; what bears this test's prefix is deleted at the end."""
    async with await aio_pika.connect(amqp_url) as connection:
        broker = Rabbit(connection, prefix)
        yield broker
        await broker.delete_everything()


@pytest.fixture
async def processes(tmp_path: Path, rabbit: Rabbit) -> AsyncIterator[Processes]:
    """Starts real processes of the bridge; those that still run at the end are killed."""
    async with Processes(tmp_path) as started:
        yield started
    del rabbit  # it must outlive the processes: it deletes their queues


@pytest.fixture
async def workplace(rabbit: Rabbit, settings: Settings) -> AsyncIterator[Workplace]:
    """All that a worker under these settings needs in RabbitMQ, and what comes of its work."""
    async with Workplace.prepared(rabbit, settings) as prepared:
        yield prepared
