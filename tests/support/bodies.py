"""Every body that the tests post, hand to a parser or find odd: collected from their sources, so that none is forgotten."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from bridge.receiver.body import MAX_BODY
from tests.support.spellings import SPELLINGS

_TESTS: Final = Path(__file__).parents[1]


def every_body() -> list[bytes]:
    """All that stands as bytes in a source of the tests, and all text that begins as JSON does; each once."""
    found = dict.fromkeys(body(1) for body in SPELLINGS.values())
    for source in sorted(_TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_bytes())):
            value = _value(node)
            if isinstance(value, str):
                value = value.encode("utf-8", "surrogatepass") if value.startswith(("{", "[")) else None
            if isinstance(value, bytes) and len(value) <= MAX_BODY:
                found[value] = None
    return list(found)


def _value(node: ast.AST) -> object:
    """Of a constant, a sum or a multiple of constants; else None."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _value(node.left), _value(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, bytes) and isinstance(right, bytes):
            return left + right
        if isinstance(node.op, ast.Mult) and isinstance(left, bytes) and isinstance(right, int):
            return left * right if len(left) * right <= MAX_BODY else None
    return None
