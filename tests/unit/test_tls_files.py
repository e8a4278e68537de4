"""Certificates and keys of this machine that a connection to PostgreSQL fails for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bridge.suppression.tls_files import unusable_file

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = ConnectionRefusedError(111, "Connection refused")


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
def test_a_file_that_is_not_there_is_named(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given in the URL, or by libpq's variable."""
    missing = tmp_path / "missing.pem"
    said = f"{name}: cannot use {missing}: No such file or directory"
    assert unusable_file(f"postgresql://a@b/c?sslmode=verify-full&{name}={missing}", REFUSED) == said
    monkeypatch.setenv(f"PG{name.upper()}", str(missing))
    assert unusable_file("postgresql://a@b/c", REFUSED) == said


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    """It is there, and PostgreSQL is not away."""
    file = tmp_path / "ca.pem"
    file.write_text("not a certificate")
    assert unusable_file(f"postgresql://a@b/c?sslrootcert={file}", REFUSED).startswith(
        f"sslrootcert: cannot use {file}: "
    )


def test_a_server_that_is_away_is_no_such_problem() -> None:
    """Waiting may help."""
    assert unusable_file("postgresql://a@b/c", REFUSED) == ""
