"""The socket to RabbitMQ: what is for the publisher is taken off the stream, all else reaches aiormq as it came."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from bridge.amqp.confirm_frames import ConfirmHandler
from bridge.amqp.wire import InterceptingStream, Wire
from tests.support.clock import StillClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pamqp.base import Frame

OURS = 3
"""The channel that is listened to."""
THEIRS = 5

HEARTBEAT = Heartbeat().marshal()
TAGS = st.integers(1, 2**63 - 1)
CHUNKS = st.lists(st.integers(1, 60), max_size=12)
"""Sizes of the pieces in which a stream arrives, one after the other; the rest comes in one."""
Told = tuple[Any, ...]


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def acked(self, delivery_tag: int, *, multiple: bool) -> None:
        self.told.append(("ack", delivery_tag, multiple))

    def nacked(self, delivery_tag: int, *, multiple: bool) -> None:
        self.told.append(("nack", delivery_tag, multiple))

    def returned(self, message: spec.Basic.Return, message_id: str) -> None:
        self.told.append(("return", message.reply_text, message.exchange, message.routing_key, message_id))

    def closed(self, code: int, text: str) -> None:
        self.told.append(("close", code, text))


class Said(NamedTuple):
    """What the broker sends: frames that belong together, and what the listener is to hear of them."""

    frames: Sequence[bytes]
    told: Told | None
    passed_on: bool = False
    """Whether aiormq gets it as well."""


class Traffic(NamedTuple):
    stream: bytes
    told: list[Told]
    left: bytes
    """For aiormq."""


def marshalled(channel: int, *frames: Frame | ContentHeader | ContentBody) -> list[bytes]:
    return [frame.marshal(one, channel) for one in frames]


def confirm(kind: type[spec.Basic.Ack | spec.Basic.Nack], channel: int, tag: int, *, multiple: bool) -> Said:
    name = "ack" if kind is spec.Basic.Ack else "nack"
    return Said(marshalled(channel, kind(delivery_tag=tag, multiple=multiple)), (name, tag, multiple))


def with_content(
    channel: int, method: spec.Basic.Return | spec.Basic.Deliver, message_id: str | None, *bodies: bytes
) -> list[bytes]:
    properties = spec.Basic.Properties(message_id=message_id, headers={"a": "b"})
    header = ContentHeader(body_size=sum(map(len, bodies)), properties=properties)
    return marshalled(channel, method, header, *map(ContentBody, bodies))


def returned(channel: int, text: str, key: str, message_id: str | None, *bodies: bytes) -> Said:
    method = spec.Basic.Return(312, text, "email.events", key)
    told = "return", text, "email.events", key, message_id or ""
    return Said(with_content(channel, method, message_id, *bodies), told)


SHORT = st.text(max_size=20)
BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


def confirms(channel: int) -> st.SearchStrategy[Said]:
    kinds = st.sampled_from([spec.Basic.Ack, spec.Basic.Nack])
    return st.builds(
        lambda kind, tag, multiple: confirm(kind, channel, tag, multiple=multiple), kinds, TAGS, st.booleans()
    )


def returns(channel: int) -> st.SearchStrategy[Said]:
    return st.builds(
        lambda text, key, message_id, bodies: returned(channel, text, key, message_id, *bodies),
        st.sampled_from(["NO_ROUTE", "NO_CONSUMERS"]),
        SHORT,
        st.none() | SHORT,
        BODIES,
    )


def answers(channel: int) -> st.SearchStrategy[Said]:
    """What RabbitMQ says on a channel that is neither a confirm nor a return; one is as long as a confirm."""
    delivered = spec.Basic.Deliver("tag", 1, False, "email.events", "opened")  # noqa: FBT003 -- as pamqp has it
    plain: list[Frame] = [
        spec.Channel.OpenOk(),
        spec.Confirm.SelectOk(),
        spec.Basic.CancelOk("eight888"),
        spec.Queue.DeclareOk("queue", 1, 2),
    ]
    closed = marshalled(channel, spec.Channel.Close(404, "NOT_FOUND", 60, 40))
    return st.one_of(
        st.sampled_from(plain).map(lambda one: Said(marshalled(channel, one), None)),
        st.just(Said(closed, ("close", 404, "NOT_FOUND"), passed_on=True)),
        BODIES.map(lambda bodies: Said(with_content(channel, delivered, "an-id", *bodies), None)),
    )


ALIVE = st.just(Said([HEARTBEAT], None))
ON_OURS = confirms(OURS) | returns(OURS) | answers(OURS)
BESIDE = st.one_of(confirms(THEIRS), returns(THEIRS), answers(THEIRS), ALIVE)


@st.composite
def traffic(draw: st.DrawFn) -> Traffic:
    """Whole messages on each channel; those of one channel may stand between the frames of the other's."""
    stream, told, left = b"", [], b""
    beside = [one for said in draw(st.lists(BESIDE, max_size=6)) for one in said.frames]
    for said in draw(st.lists(ON_OURS, max_size=8)):
        for ours in said.frames:
            between = b"".join(beside[: (count := draw(st.integers(0, 2)))])
            del beside[:count]
            stream += ours + between
            left += between if said.told and not said.passed_on else ours + between
        if said.told:
            told.append(said.told)
    rest = b"".join(beside)
    return Traffic(stream + rest, told, left + rest)


def cut(stream: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    for size in sizes:
        if not stream:
            return
        yield stream[:size]
        stream = stream[size:]
    if stream:
        yield stream


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as running:
        yield running


class Socket:
    """A stream as the socket feeds it and aiormq reads it, at a time of the test's own."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.clock = StillClock(0.0)
        self._stream = InterceptingStream(runner.get_loop())
        self._stream._time = self.clock
        self.heard = Heard()

    def listen(self) -> None:
        self._stream.route(OURS, ConfirmHandler(self.heard).handle)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._stream.feed_data(piece)

    def read(self) -> bytes:
        """What has been passed on since the last time."""
        passed = bytes(self._stream._buffer)  # type: ignore[attr-defined]  # there is no way to ask without waiting
        self._stream._buffer.clear()  # type: ignore[attr-defined]  # nor to take
        return passed

    def rest(self) -> bytes:
        """What aiormq reads until the end, when the broker has closed the connection."""
        self._stream.feed_eof()
        return self._runner.run(self._stream.read())


@given(traffic(), CHUNKS)
def test_each_frame_goes_where_it_belongs_however_the_stream_is_cut(
    runner: asyncio.Runner, said: Traffic, chunks: list[int]
) -> None:
    """Confirms and returns of our channel to the listener, in order and once; every other byte to aiormq, in order."""
    socket = Socket(runner)
    socket.listen()
    socket.feed(*cut(said.stream, chunks))
    assert socket.heard.told == said.told
    assert socket.rest() == said.left
    assert socket.heard.told == said.told


@given(traffic())
def test_one_byte_at_a_time_is_no_different(runner: asyncio.Runner, said: Traffic) -> None:
    """Nothing is heard before its last byte is there, and nothing waits for the byte after it."""
    socket = Socket(runner)
    socket.listen()
    socket.feed(*(said.stream[at : at + 1] for at in range(len(said.stream))))
    assert socket.heard.told == said.told
    assert socket.read() == said.left


@given(traffic(), traffic(), CHUNKS)
def test_until_somebody_listens_everything_is_aiormqs(
    runner: asyncio.Runner, before: Traffic, after: Traffic, chunks: list[int]
) -> None:
    """The handshake, and what else comes before: listening begins between two frames."""
    socket = Socket(runner)
    socket.feed(*cut(before.stream, chunks))
    socket.listen()
    socket.feed(*cut(after.stream, chunks))
    assert socket.heard.told == after.told
    assert socket.rest() == before.stream + after.left


def test_a_return_is_heard_before_the_ack_that_follows(runner: asyncio.Runner) -> None:
    """However many frames its content has; another channel may speak in between."""
    socket = Socket(runner)
    socket.listen()
    beside = confirm(spec.Basic.Ack, THEIRS, 1, multiple=True).frames[0]
    for bodies in ([], [b"{}"], [b"{", b"}" * 30, b" "]):
        back = returned(OURS, "NO_ROUTE", "a.key", "an-id", *bodies)
        ack = confirm(spec.Basic.Ack, OURS, 7, multiple=False)
        socket.feed(beside.join([*back.frames, *ack.frames]))
        assert socket.heard.told == [back.told, ack.told]
        assert socket.read() == beside * len(back.frames)
        socket.heard.told.clear()


def test_two_channels_are_listened_to_at_once(runner: asyncio.Runner) -> None:
    """Each listener hears its own channel, until that is handed back."""
    socket, beside = Socket(runner), Heard()
    socket.listen()
    socket._stream.route(THEIRS, ConfirmHandler(beside).handle)
    confirms = [confirm(spec.Basic.Ack, channel, 1, multiple=False) for channel in (OURS, THEIRS)]
    socket.feed(*(one.frames[0] for one in confirms))
    assert (socket.heard.told, beside.told) == ([confirms[0].told], [confirms[1].told])
    socket._stream.unroute(THEIRS)
    socket.feed(*(one.frames[0] for one in confirms))
    assert (len(socket.heard.told), len(beside.told)) == (2, 1)
    assert socket.read() == confirms[1].frames[0]


def test_a_close_that_is_cut_short_is_heard_as_far_as_it_goes(runner: asyncio.Runner) -> None:
    """A text that claims to be longer than its frame, or none at all, does not fail in the socket's callback."""
    socket = Socket(runner)
    socket.listen()
    for payload in (b"", b"\x01", b"\x01\x93\xffshort"):
        method = b"\x00\x14\x00\x28" + payload
        socket.feed(b"\x01" + OURS.to_bytes(2) + len(method).to_bytes(4) + method + b"\xce")
    assert [told[0] for told in socket.heard.told] == ["close"] * 3


def test_a_return_that_is_as_short_as_a_confirm_is_a_return(runner: asyncio.Runner) -> None:
    """The length of a frame says nothing: what it is, its method says."""
    socket = Socket(runner)
    socket.listen()
    method = spec.Basic.Return(312, "", "", "four")
    frames = with_content(OURS, method, "an-id", b"{}")
    assert len(frames[0]) == len(confirm(spec.Basic.Ack, OURS, 1, multiple=False).frames[0])
    socket.feed(*frames)
    assert socket.heard.told == [("return", "", "", "four", "an-id")]
    assert socket.read() == b""


def test_aiormq_hears_that_the_broker_lives_while_only_confirms_come(runner: asyncio.Runner) -> None:
    """It takes a connection for stuck on which it reads nothing: now and then it reads a heartbeat, whole."""
    socket = Socket(runner)
    socket.listen()
    ack = confirm(spec.Basic.Ack, OURS, 1, multiple=False).frames[0]
    passed = []
    for _ in range(20):
        socket.clock.now += 0.6
        socket.feed(ack + ack)
        passed.append(socket.read())
    assert set(passed) == {b"", HEARTBEAT}
    assert passed.count(HEARTBEAT) == 10, "not one for each confirm"
    assert len(socket.heard.told) == 40


def test_a_sign_of_life_stands_between_frames_not_in_them(runner: asyncio.Runner) -> None:
    """What comes before and after the confirm in one piece is passed on whole."""
    socket = Socket(runner)
    socket.listen()
    socket.clock.now = 10.0
    before, after = marshalled(THEIRS, spec.Channel.OpenOk(), spec.Confirm.SelectOk())
    ack = confirm(spec.Basic.Ack, OURS, 1, multiple=False).frames[0]
    socket.feed(before + ack + after[:5], after[5:])
    passed = socket.read()
    assert passed.replace(HEARTBEAT, b"", 1) == before + after
    assert sorted(frames_of(passed)) == sorted([before, HEARTBEAT, after])


def frames_of(stream: bytes) -> list[bytes]:
    frames = []
    while stream:
        size, _, _ = frame.unmarshal(stream)
        frames.append(stream[:size])
        stream = stream[size:]
    return frames


@given(st.binary(max_size=300), CHUNKS)
@example(b"AMQP\x00\x00\x09\x01", [4, 4])
@example(b"AMQP", [])
@example(b"HTTP/1.1 400 Bad Request\r\n\r\n", [1, 2])
def test_what_is_no_amqp_reaches_aiormq(runner: asyncio.Runner, garbage: bytes, chunks: list[int]) -> None:
    """Another server on the port, another version of the protocol: aiormq has the words for it."""
    socket = Socket(runner)
    socket.feed(*cut(garbage, chunks))
    assert socket.rest() == garbage


@given(traffic(), st.binary(min_size=7, max_size=100).filter(lambda data: data[0] not in {1, 2, 3, 8}))
def test_a_stream_that_goes_mad_is_passed_on(runner: asyncio.Runner, said: Traffic, garbage: bytes) -> None:
    """What was good before is heard; from where it is no AMQP any more, aiormq has it at once."""
    socket = Socket(runner)
    socket.listen()
    socket.feed(said.stream + garbage)
    assert socket.heard.told == said.told
    assert socket.read() == said.left + garbage


@pytest.mark.parametrize("size", range(4))
def test_a_method_that_is_cut_off_is_aiormqs_to_refuse(runner: asyncio.Runner, size: int) -> None:
    """A frame too short to name its method: it reaches aiormq, and the socket's callback does not fail."""
    socket = Socket(runner)
    socket.listen()
    short = b"\x01" + OURS.to_bytes(2) + size.to_bytes(4) + b"\x00" * size + b"\xce"
    socket.feed(short)
    assert socket.read() == short
    assert socket.heard.told == []


@given(traffic(), st.integers(1, 12))
def test_the_end_of_the_stream_passes_the_rest_on(
    runner: asyncio.Runner, said: Traffic, missing: int
) -> None:
    """A frame that stops in the middle is aiormq's to complain about; of a confirm cut short nothing is heard."""
    last = confirm(spec.Basic.Ack, OURS, 99, multiple=True).frames[0][:-missing]
    socket = Socket(runner)
    socket.listen()
    socket.feed(said.stream + last)
    assert socket.heard.told == said.told
    assert socket.rest() == said.left + last


def test_a_wire_that_was_never_opened_says_so() -> None:
    """What is written on it goes nowhere; to listen on it is a mistake."""
    wire = Wire()
    wire.write(b"nowhere")
    with pytest.raises(RuntimeError, match="never opened"):
        wire.route(OURS, ConfirmHandler(Heard()).handle)
