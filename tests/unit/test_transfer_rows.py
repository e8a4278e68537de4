"""What the rows of other systems' exports mean, and ours: by their headers."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.suppression.policy import Reason
from bridge.suppression.transfer import times
from bridge.suppression.transfer.cells import escaped, unescaped
from bridge.suppression.transfer.columns import UnrecognisedColumnsError, recognise, recognise_row
from bridge.suppression.transfer.merging import Found
from bridge.suppression.transfer.reasons import UnknownReasonError, reason_in_name, reason_of
from bridge.suppression.transfer.rows import ImportedRow, RejectedRowError, RowReader

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.quick

NOW = 1_700_000_000
WRITTEN = 1_690_000_000
AT = 1_539_062_173  # 2018-10-09T05:16:13Z


def _end_of(reason: Reason, at: int) -> int | None:
    return at + 60 if reason is Reason.SOFT_BOUNCE else None


def read(header: str, row: str, **options: object) -> ImportedRow:
    """The row of a CSV file with this header."""
    names, cells = csv.reader(io.StringIO(f"{header}\n{row}\n"), strict=True)
    columns = recognise(names, **options)  # type: ignore[arg-type]  # they are the caller's
    return RowReader(columns, written_at=WRITTEN, now=NOW, end_of=_end_of).read(cells)


@pytest.mark.parametrize(
    ("source", "header", "row", "reason", "at"),
    [
        ("ses", "EmailAddress,Reason,LastUpdateTime", "J@x.org,BOUNCE,2018-10-09T05:16:13.5Z", "hard_bounce", AT),
        ("ses", "LastUpdateTime,Reason,EmailAddress", "1539062173.25,COMPLAINT,J@x.org", "complaint", AT),
        (
            "postmark",
            "EmailAddress,SuppressionReason,Origin,CreatedAt",
            "J@x.org,HardBounce,Recipient,2018-10-09T07:16:13+02:00",
            "hard_bounce",
            AT,
        ),
        (
            "postmark",
            "EmailAddress,SuppressionReason,Origin,CreatedAt",
            "J@x.org,ManualSuppression,Customer,2018-10-09T05:16:13Z",
            "manual",
            AT,
        ),
        (
            "postmark",
            "EmailAddress,SuppressionReason,Origin,CreatedAt",
            "J@x.org,ManualSuppression,Recipient,2018-10-09T05:16:13Z",
            "unsubscribe",
            AT,
        ),
        (
            "telnyx",
            "id,to,from,reason,source,scope,status,domain_id,created_at,updated_at,expires_at,group_id",
            "1,J@x.org,me@x.org,spam_complaint,event,account,active,2,2018-10-09T05:16:13Z,2020-01-01T00:00:00Z,,",
            "complaint",
            AT,
        ),
        ("telnyx", "TO,REASON", "J@x.org,manual_block", "manual", WRITTEN),
        ("mailgun", "address,code,error,created_at", 'J@x.org,550,"no, never","Tue, 09 Oct 2018 05:16:13 UTC"', "hard_bounce", AT),
        ("mailgun", "address,tags,created_at", 'J@x.org,*,"Tue, 09 Oct 2018 05:16:13 +0000"', "unsubscribe", AT),
        ("mailchimp", "Email Address,First Name,UNSUB_TIME,UNSUB_REASON", "J@x.org,J,2018-10-09 05:16:13,no", "unsubscribe", AT),
        ("mailchimp", "Email Address,CLEAN_TIME", "J@x.org,2018-10-09 05:16:13", "hard_bounce", AT),
        ("coss", "scope,address,reason,created_at", "all,J@x.org,unsubscribe,2018-10-09T05:16:13Z", "unsubscribe", AT),
        ("other", "recipient;x;reason".replace(";", ","), "J@x.org,,Bounced", "hard_bounce", WRITTEN),
    ],
)  # fmt: skip
def test_an_export_is_known_by_its_header(source: str, header: str, row: str, reason: str, at: int) -> None:
    """Whatever the order and the case; a row without a time is as old as the file."""
    assert recognise(header.split(",")).source == source
    found = read(header, row)
    assert found == ImportedRow("j@x.org", reason, "J@x.org", at, at)
    assert read(header.upper(), row) == found


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("suppression_bounces.csv", "hard_bounce"),
        ("suppression_invalid_emails.csv", "hard_bounce"),
        ("suppression_spam_reports.csv", "complaint"),
        ("suppression_unsubscribes.csv", "unsubscribe"),
    ],
)
def test_sendgrids_files_say_what_they_are_by_their_name(name: str, reason: str) -> None:
    """Their columns are the same, and their `reason` is what the other server said; --reason says it for any name."""
    header, row = "status,reason,email,created", "5.1.1,550 unknown,J@x.org,1539062173"
    assert read(header, row, file_name=name) == ImportedRow("j@x.org", reason, "J@x.org", AT, AT)
    assert read(header, row, reason=Reason.COMPLAINT, file_name=name).reason == "complaint"
    with pytest.raises(UnrecognisedColumnsError, match="give --reason"):
        read(header, row, file_name="list.csv")


def test_a_soft_bounce_ends() -> None:
    """SendGrid's blocks are passing failures; one that the file gives an end keeps it."""
    row = read("email,created", "j@x.org,1539062173", file_name="blocks.csv")
    assert (row.reason, row.expires_at) == ("soft_bounce", AT + 60)
    row = read("to,reason,created_at,expires_at", "j@x.org,soft_bounce,1539062173,1539062174")
    assert row.expires_at == AT + 1


def test_mailguns_complaints_need_a_reason() -> None:
    """Nothing in that file says what it is."""
    header, row = "address,created_at", "j@x.org,1539062173"
    with pytest.raises(UnrecognisedColumnsError, match="give --reason"):
        read(header, row)
    assert read(header, row, reason=Reason.COMPLAINT).reason == "complaint"


def test_a_header_without_addresses_is_refused() -> None:
    """The message shows the header and what would do."""
    with pytest.raises(UnrecognisedColumnsError, match=r"'name,reason'.*EmailAddress"):
        recognise(["name", "reason"])


def test_a_file_without_a_header_is_an_address_and_perhaps_its_reason() -> None:
    """As SES takes it. A header is none."""
    assert recognise_row(["EmailAddress", "Reason"]) is None
    columns = recognise_row(["j@x.org", "BOUNCE"])
    assert columns is not None
    assert (columns.source, columns.reason) == ("ses", 1)
    columns = recognise_row(["j@x.org"], reason=Reason.MANUAL)
    assert columns is not None
    assert columns.every is Reason.MANUAL
    with pytest.raises(UnrecognisedColumnsError, match=r"line 1.*--reason"):
        recognise_row(["j@x.org", "2024-01-01"])


@pytest.mark.parametrize(
    ("header", "row", "why"),
    [
        ("address,reason", "nobody,bounce", "no @-sign"),
        ("address,reason", ",bounce", "empty"),
        ("address,reason", '"a@x.org, b@x.org",bounce', "not one e-mail address"),
        ("address,reason", "j@x.org,whatever", "'whatever' is no known reason; ours are hard_bounce"),
        ("address,reason", "j@x.org,", "'' is no known reason"),
        ("address,reason", "j@x.org,bounce,more", "3 cells, and the header has 2"),
        ("address,reason,created_at", "j@x.org,bounce,yesterday", "'yesterday' is not a time"),
        ("address,reason,created_at", "j@x.org,bounce,2999-01-01T00:00:00Z", "lies in the future"),
        ("to,reason,status", "j@x.org,hard_bounce,removed", "status is 'removed'"),
        ("address,reason,original,first_event_at,last_event_at,count", "j@x.org,manual,,2,1,1", "in this order"),
        ("address,reason,original,first_event_at,last_event_at,count", "j@x.org,manual,,1,1,0", "no count"),
        ("address,reason,original,first_event_at,last_event_at,count,evidence", "j@x.org,manual,,1,1,1,!", "not Base64"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_read_is_rejected_with_the_reason(header: str, row: str, why: str) -> None:
    """One by one: the other rows are imported."""
    with pytest.raises(RejectedRowError, match=why):
        read(header, row)


def test_empty_cells_at_the_end_may_be_missing() -> None:
    """Spreadsheets leave them out."""
    assert read("address,reason,created_at,more", "j@x.org,bounce").last_event_at == WRITTEN


@pytest.mark.parametrize(
    "text",
    [
        "1539062173", "1539062173.9", "1539062173999", "2018-10-09T05:16:13Z", "2018-10-09 05:16:13", " 2018-10-09T07:16:13+02:00 ",
        "Tue, 09 Oct 2018 05:16:13 GMT", "Tue, 9 Oct 2018 01:16:13 -0400",
    ],
)  # fmt: skip
def test_every_way_to_write_a_time_is_read(text: str) -> None:
    """Unix seconds and milliseconds, RFC 3339, RFC 2822; without a zone it is UTC."""
    assert times.parse(text) == AT
    assert times.as_text(AT) == "2018-10-09T05:16:13Z"


@pytest.mark.parametrize("text", ["", "soon", "2018-13-01", "1900-01-01", "-1", "1e9", "Tue", "9" * 16])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Also what lies before 1970."""
    with pytest.raises(times.InvalidTimeError):
        times.parse(text)


@given(st.integers(0, 253_402_300_799))
def test_a_time_that_is_written_is_read_as_the_same(seconds: int) -> None:
    """To the end of the year 9999."""
    assert times.parse(times.as_text(seconds)) == seconds


@given(st.text() | st.text("'=+-@\t\ra"))
def test_no_escaped_cell_is_a_formula_and_none_is_changed_for_good(text: str) -> None:
    """Whatever stands in it, apostrophes included."""
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unescaped(escaped(text)) == text


def test_reasons_of_other_systems_are_ours() -> None:
    """In any spelling; of a longer name the longest part counts."""
    for name, reason in {
        "Hard-Bounce": Reason.HARD_BOUNCE, "SPAM REPORT": Reason.COMPLAINT, "Unsubscribed": Reason.UNSUBSCRIBE,
        "invalid": Reason.HARD_BOUNCE, "softBounce": Reason.SOFT_BOUNCE, "skipped": Reason.SKIPPED,
    }.items():  # fmt: skip
        assert reason_of(name) is reason
    for reason in Reason:
        assert reason_of(reason.value) is reason
    with pytest.raises(UnknownReasonError):
        reason_of("")
    assert reason_in_name("/some/where/soft_bounces-2024.csv") is Reason.SOFT_BOUNCE
    assert reason_in_name("/spam/where/list-2024.csv") is None


ROWS = st.builds(
    ImportedRow,
    st.sampled_from(["a@x.org", "b@x.org"]),
    st.sampled_from(["manual", "complaint"]),
    st.just("a@x.org"),
    st.integers(0, 10),
    st.integers(10, 20),
    st.integers(1, 3),
    expires_at=st.none() | st.integers(0, 50),
)


@given(st.lists(ROWS), st.randoms(use_true_random=False))
def test_rows_make_the_same_list_in_any_order_and_however_often(
    rows: list[ImportedRow], random: object
) -> None:
    """An import is no event: it adds nothing up."""
    repeated = [*rows, *rows]
    random.shuffle(repeated)  # type: ignore[attr-defined]  # hypothesis's own

    def made(of: Sequence[ImportedRow]) -> Found:
        found = Found(lifted_at={("b@x.org", "manual"): 15})
        for row in of:
            found.put(row, now=5)
        return found

    once = made(rows)
    assert made(repeated) == once
    assert {once.put(row, now=5) for row in rows} <= {"unchanged", "outdated"}
    if ("b@x.org", "manual") in once.entries:
        assert once.entries["b@x.org", "manual"].last_event_at > 15
