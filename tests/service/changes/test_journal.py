import errno
import os
from pathlib import Path
from typing import Any

import pytest

from service.changes.journal import Journal, JournalError, Record

RECORDS: list[Record] = [{"change": 1, "text": "a\r\n\x85 é \u2028"}, {"change": 2}, {"next": 3}]


def read(path: Path) -> list[Record]:
    found: list[Record] = []
    Journal(path, found.append).close()
    return found


def written(path: Path) -> Path:
    journal = Journal(path, print)
    journal.append(RECORDS[:1])
    journal.append(RECORDS[1:])
    journal.close()
    return path


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert read(written(tmp_path / "journal")) == RECORDS


def test_an_incomplete_last_record_is_cut_off_at_every_length(tmp_path: Path) -> None:
    whole = written(tmp_path / "journal").read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])

        found = read(tmp_path / "cut")

        assert found == RECORDS[: sum(end <= length for end in ends)]
        assert (tmp_path / "cut").stat().st_size == max([0, *(e for e in ends if e <= length)])


def test_a_record_follows_one_that_was_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    path.write_bytes(path.read_bytes() + b"1234")
    journal = Journal(path, print)

    journal.append([{"change": 4}])

    journal.close()
    assert read(path) == [*RECORDS, {"change": 4}]


def test_a_damaged_record_before_others_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    path.write_bytes(path.read_bytes().replace(b'"change":2', b'"change":3'))

    with pytest.raises(JournalError, match=r"journal:2 is damaged, and records follow it: move"):
        read(path)


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_after_a_failed_write_the_journal_is_as_it_was_and_takes_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = written(tmp_path / "journal")
    journal, write, fsync = Journal(path, print), os.write, os.fsync
    failures = iter([True])

    def write_half(descriptor: int, content: memoryview) -> int:
        if failing == "write" and len(content) < 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content[: -(-len(content) // 2)])

    def fail_once(descriptor: int) -> None:
        if failing == "fsync" and next(failures, False):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "write", write_half)
    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(OSError, match="No space left|Input/output"):
        journal.append([{"change": 4}])
    monkeypatch.undo()

    assert read(path) == RECORDS
    journal.append([{"change": 5}])
    journal.close()
    assert read(path) == [*RECORDS, {"change": 5}]


def test_a_rewrite_replaces_all_records_and_is_followed_by_others(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    journal = Journal(path, print)

    journal.rewrite([{"next": 9}])
    journal.append([{"change": 9}])

    journal.close()
    assert read(path) == [{"next": 9}, {"change": 9}]


def test_a_rewrite_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "journal")
    journal = Journal(path, print)

    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("service.retrieval.storage.artifact.replace_file", fail)
    with pytest.raises(OSError, match="No space"):
        journal.rewrite([])

    journal.append([{"change": 4}])
    journal.close()
    assert read(path) == [*RECORDS, {"change": 4}]


def test_what_a_killed_rewrite_left_is_removed(tmp_path: Path) -> None:
    path = written(tmp_path / "journal")
    (tmp_path / ".journal.x1y2").write_bytes(b"half")

    assert read(path) == RECORDS
    assert [each.name for each in tmp_path.iterdir()] == ["journal"]


@pytest.mark.parametrize("is_made_again", [False, True])
def test_nothing_is_written_to_a_journal_that_was_removed(
    tmp_path: Path, is_made_again: bool
) -> None:
    journal = Journal(tmp_path / "journal", print)
    (tmp_path / "journal").unlink()
    if is_made_again:
        (tmp_path / "journal").touch()

    with pytest.raises(FileNotFoundError, match="the journal of changes was removed: restart"):
        journal.append(RECORDS)

    journal.close()
