"""Certificates and keys of this machine that a connection to RabbitMQ fails for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trustme

from bridge.amqp.tls_files import problem

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["cafile", "certfile", "keyfile", "capath"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    """Given in the URL."""
    missing = tmp_path / "missing"
    said = f"{name}: cannot use {missing}: No such file or directory"
    assert problem(f"amqps://a:b@c/?{name}={missing}") == said
    assert problem(f"amqp://a:b@c/?{name}={missing}") == "", "no TLS, no file"


def test_what_can_be_used_is_no_problem(tmp_path: Path) -> None:
    """An authority, a certificate and its key; a key of another one does not fit."""
    authority = trustme.CA()
    one, other = authority.issue_cert("a"), authority.issue_cert("b")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    one.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    one.private_key_pem.write_to_path(tmp_path / "key")
    other.private_key_pem.write_to_path(tmp_path / "other")
    url = f"amqps://a:b@c/?cafile={tmp_path}/ca&capath={tmp_path}&certfile={tmp_path}/cert&keyfile={tmp_path}"
    assert problem(f"{url}/key") == ""
    assert problem(f"{url}/other").startswith("certfile and keyfile: cannot use ")
    assert problem(f"amqps://a:b@c/?cafile={tmp_path}/key").startswith("cafile: cannot use ")
