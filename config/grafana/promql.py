"""Expressions that several dashboards have."""

from __future__ import annotations


def rate(metric: str, *, by: str = "", where: str = "") -> str:
    """So many a second, of all instances together."""
    return f"sum{_by(by)} (rate({metric}{_where(where)}[$__rate_interval]))"


def quantile(share: float, histogram: str, *, by: str = "", where: str = "") -> str:
    """Below which value this share of what a histogram has seen lies."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', by=labels, where=where)})"


def in_queue(*queues: str, by: str = "") -> str:
    """How many messages are in these queues of the bridge, delivered or not; names without the prefix, as patterns."""
    return f'sum{_by(by)} (rabbitmq_queue_messages{{queue=~"{_pattern(queues)}"}})'


def _pattern(queues: tuple[str, ...]) -> str:
    names = [queue.replace(".", "[.]").replace("*", ".*") for queue in queues]
    return "${prefix}" + (names[0] if len(names) == 1 else f"({'|'.join(names)})")


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""


def _where(matchers: str) -> str:
    return f"{{{matchers}}}" if matchers else ""
