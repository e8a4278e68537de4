"""The version of the contract. docs/contract.md says what may change without a new one."""

from __future__ import annotations

from typing import Final

CONTRACT_VERSION: Final = "1.1.0"
"""Semantic. A breaking change takes a new major version; the release's own version says nothing about the contract."""
