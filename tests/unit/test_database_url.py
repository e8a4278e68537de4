"""What `suppression.database_url` may be, and what errors tell of it."""

from __future__ import annotations

import pytest

from bridge.suppression import postgresql_url
from bridge.suppression.errors import StoreError
from bridge.suppression.store import Store


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql+asyncpg://ann:secret@db.example.org:6432/list", "db.example.org:6432/list"),
        ("postgresql://ann:secret@db/list", "db:5432/list"),
        ("postgres://ann:sec%40ret%2F@db/list?sslmode=require", "db:5432/list"),
        ("postgresql://ann:secret@[::1]:6432/list", "[::1]:6432/list"),
        ("postgresql://ann:secret@[::1]/list", "[::1]:5432/list"),
        ("postgresql://ann:secret@one:1,two/list?target_session_attrs=read-write", "one:1,two:5432/list"),
        ("postgresql://ann:secret@/list?host=/run/postgresql", "/run/postgresql/list"),
        ("postgresql:///?host=db&dbname=list&user=ann&password=secret", "db:5432/list"),
        ("postgresql:///list", "localhost:5432/list"),
    ],
)
def test_an_address_is_named_without_its_password(url: str, name: str) -> None:
    """In the forms that libpq takes; the driver gets all of it."""
    address = postgresql_url.parse(url)
    assert address.name == name
    assert address.dsn == "postgresql://" + url.partition("://")[2]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:sec#ret@db/list",
        "postgresql://ann:sec/ret@db/list",
        "postgresql://ann:sec?ret@db/list",
        "postgresql://ann:sec@ret@db/list",
        "postgresql://ann:secret@db",
        "postgresql://ann:secret@db/list?sslmode",
        "postgresql://ann:[secret@db/list",
        "postgresql://ann:secret",
        "postgresql://ann:secret/list",
        "mysql+aiomysql://ann:secret@db/list",
        "ann:secret@db/list",
        "sec:ret://db/list",
    ],
)
async def test_what_is_no_address_is_refused_without_telling_a_part_of_it(url: str) -> None:
    """One line that names the setting and shows the form."""
    with pytest.raises(StoreError) as refusal:
        async with Store.open(url):
            pass
    line = str(refusal.value)
    assert "suppression.database_url (BRIDGE_SUPPRESSION__DATABASE_URL)" in line
    assert "postgresql+asyncpg://user:password@host:port/database" in line
    assert "sec" not in line
    assert "ret" not in line
    assert "\n" not in line


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:secret@/list?port=port",
        "postgresql://ann:secret@127.0.0.1:1/list?sslmode=strict",
        "postgresql://ann:secret@127.0.0.1:1/list?sslmode=verify-full&sslrootcert=/nowhere/ca.pem",
        "postgresql://ann:secret@127.0.0.1:1/list?target_session_attrs=any-will-do",
    ],
)
async def test_what_the_driver_cannot_read_is_one_line(url: str) -> None:
    """The driver reads the parameters only when it connects."""
    with pytest.raises(StoreError) as refusal:
        async with Store.open(url):
            pass
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
