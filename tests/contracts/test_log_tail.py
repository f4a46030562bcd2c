"""What both tails keep, the real script and the local one, on real files.

No line that still exists is lost, none comes twice, and what was destroyed is told as a gap.
"""

import asyncio
import gzip
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.component.log_tail.following import SETTINGS, following, following_locally
from tests.component.log_tail.oracle import TICK_SECONDS


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as log:
        log.write(b"".join(line + b"\n" for line in lines))


def numbered(word: str, count: int) -> list[bytes]:
    return [f"2025-06-23T06:50:39,{n:03} {word} line {n}".encode() for n in range(count)]


@pytest.fixture(params=[following, following_locally], ids=["script", "local"])
def follow(request):
    return request.param


@pytest.fixture
def log(tmp_path):
    return tmp_path / "cloud.log"


async def test_without_a_place_it_begins_at_the_end(follow, log, tmp_path):
    append(log, b"old", b"older")
    async with follow(tmp_path) as tail:
        await tail.placed()
        assert tail.lines == []
        assert tail.position.offset == log.stat().st_size
        append(log, b"new")
        await tail.sees(b"new")


async def test_the_end_is_moved_back_to_the_beginning_of_its_line(follow, log, tmp_path):
    log.write_bytes(b"whole\nhalf")
    async with follow(tmp_path) as tail:
        await tail.placed()
        assert tail.position.offset == len(b"whole\n")
        append(log, b" and the rest")
        await tail.sees(b"half and the rest")


async def test_a_place_names_the_open_file_and_its_first_bytes(follow, log, tmp_path):
    append(log, *numbered("a", 20))
    async with follow(tmp_path) as tail:
        await tail.placed()
        status = log.stat()
        assert tail.position.device_inode == f"{status.st_dev}:{status.st_ino}"
        assert tail.position.fingerprint_bytes == 256
        assert tail.position.generation == 1


async def test_a_growing_line_is_given_once_it_is_whole(follow, log, tmp_path):
    append(log, b"first")
    async with follow(tmp_path) as tail:
        await tail.placed()
        for piece in (b"a", b"b", b"c"):
            with log.open("ab") as half:
                half.write(piece)
            size = log.stat().st_size
            await tail.confirmed(size)
            assert tail.lines == []
        append(log, b"d")
        await tail.sees(b"abcd")


async def test_the_fingerprint_grows_with_a_young_file(follow, log, tmp_path):
    log.touch()
    async with follow(tmp_path) as tail:
        await tail.placed()
        assert tail.position.fingerprint_bytes == 0
        append(log, b"short")
        await tail.until(lambda it: it.position.fingerprint_bytes == 6)
        append(log, *numbered("a", 20))
        await tail.until(lambda it: it.position.fingerprint_bytes == 256)
        young = tail.position
    async with follow(tmp_path, young) as tail:
        await tail.placed()
        assert tail.position == young


async def test_binary_bytes_come_as_they_are(follow, log, tmp_path):
    append(log, b"text")
    every_byte = bytes(n for n in range(256) if n != 10)
    lines = [every_byte, b"\0\0\0", b"", b"\xff\xfe", b"\0" + b"x" * 20000 + b"\0", b"\r"]
    async with follow(tmp_path) as tail:
        await tail.placed()
        for line in lines:
            append(log, line)
            await asyncio.sleep(0.03)
        append(log, *lines)
        await tail.sees(*lines, *lines)


async def test_a_big_burst_comes_whole(follow, log, tmp_path):
    log.touch()
    lines = [b"%07d " % n + b"x" * 90 for n in range(60_000)]
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, *lines)
        await tail.sees(*lines)


async def test_rename_upwards_the_lowest_number_is_newest(follow, log, tmp_path):
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        await tail.sees(b"1")
        log.rename(tmp_path / "cloud.log.1")
        append(tmp_path / "cloud.log.1", b"a last word")
        append(log, b"2")
        (tmp_path / "cloud.log.1").rename(tmp_path / "cloud.log.2")
        log.rename(tmp_path / "cloud.log.1")
        append(log, b"3")
        await tail.sees(b"1", b"a last word", b"2", b"3")
        assert tail.gaps == []
        assert tail.position.generation == 3


async def test_rename_downwards_the_highest_number_is_newest(follow, log, tmp_path):
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        for n in range(1, 5):
            append(log, b"%d" % n)
            log.rename(tmp_path / f"cloud.{n}.log")
        append(log, b"5")
        await tail.sees(b"1", b"2", b"3", b"4", b"5")
        assert tail.gaps == []


async def test_copytruncate_reads_the_rest_from_the_copy(follow, log, tmp_path):
    first = numbered("first", 10)
    append(log, *first)
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, b"1", b"2")
        shutil.copy(log, tmp_path / "cloud.log.1")
        log.write_bytes(b"")
        append(log, b"3")
        await tail.sees(b"1", b"2", b"3")
        assert tail.gaps == [None]
        append(log, b"4")
        await tail.sees(b"1", b"2", b"3", b"4")


async def test_truncation_without_a_copy_is_a_gap_of_unknown_size(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    async with follow(tmp_path) as tail:
        await tail.placed()
        old = tail.position
        log.write_bytes(b"")
        append(log, b"new")
        await tail.sees(b"new")
        assert tail.gaps == [None]
        assert tail.position.generation == old.generation + 1


async def test_truncation_and_growth_beyond_the_old_end_is_seen(follow, log, tmp_path):
    append(log, *numbered("first", 3))
    async with follow(tmp_path) as tail:
        await tail.placed()
        with log.open("r+b") as writer:
            writer.truncate(0)
            writer.write(b"".join(line + b"\n" for line in numbered("second", 50)))
        await tail.sees(*numbered("second", 50))
        assert tail.gaps == [None]


async def test_a_cut_to_a_length_that_is_not_zero_is_seen_with_the_next_sign_of_life(
    follow, log, tmp_path
):
    lines = numbered("first", 20)
    append(log, *lines)
    async with follow(tmp_path) as tail:
        await tail.placed()
        with log.open("r+b") as writer:
            writer.truncate(log.stat().st_size // 2)
        tail.keepalive()
        await tail.until(lambda it: bool(it.gaps))
        assert tail.gaps == [None]


async def test_both_rotations_at_once(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        shutil.copy(log, tmp_path / "cloud.log.1")
        log.write_bytes(b"")
        append(log, b"2")
        (tmp_path / "cloud.log.1").rename(tmp_path / "cloud.log.2")
        log.rename(tmp_path / "cloud.log.1")
        append(log, b"3")
        await tail.sees(b"1", b"2", b"3")


async def test_a_deleted_and_new_made_log_is_followed_with_a_gap(follow, log, tmp_path):
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        log.unlink()
        append(log, b"2")
        await tail.sees(b"1", b"2")
        assert tail.gaps == [None]


async def test_older_rotated_files_are_not_read_again_after_a_deletion(follow, log, tmp_path):
    append(tmp_path / "cloud.log.1", b"ancient")
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        await asyncio.sleep(0.05)  # file systems keep time in ticks: the write must be younger
        append(log, b"1")
        log.unlink()
        append(log, b"2")
        await tail.sees(b"1", b"2")


async def test_a_last_line_without_an_end_is_given_when_the_file_has_ended(follow, log, tmp_path):
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        with log.open("ab") as writer:
            writer.write(b"unended")
        log.rename(tmp_path / "cloud.log.1")
        append(log, b"2")
        await tail.sees(b"unended", b"2")


async def test_a_log_that_is_missing_is_waited_for(follow, log, tmp_path):
    async with follow(tmp_path) as tail:
        await tail.until(lambda it: it.reader.is_waiting)
        append(log, b"1")
        await tail.sees(b"1")


async def test_resume_goes_on_where_it_stopped(follow, log, tmp_path):
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        await tail.sees(b"1")
        place = tail.position
    append(log, b"2")
    async with follow(tmp_path, place) as tail:
        await tail.sees(b"2")
        assert tail.gaps == []
        assert tail.position.generation == place.generation


@pytest.mark.parametrize("names", [("cloud.log.1", "cloud.log.2"), ("cloud.2.log", "cloud.1.log")])
async def test_resume_after_two_rotations_reads_all_files_in_order(follow, log, tmp_path, names):
    newer, older = (tmp_path / name for name in names)
    append(log, *numbered("first", 5))
    async with follow(tmp_path) as tail:
        await tail.placed()
        place = tail.position
    append(log, b"1")
    log.rename(older)
    append(log, b"2")
    log.rename(newer)
    append(log, b"3")
    async with follow(tmp_path, place) as tail:
        await tail.sees(b"1", b"2", b"3")
        assert tail.gaps == []
        assert tail.position.generation == place.generation + 2


async def test_resume_after_copytruncate_reads_the_copy_first(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    async with follow(tmp_path) as tail:
        await tail.placed()
        place = tail.position
    append(log, b"1")
    shutil.copy(log, tmp_path / "cloud.log.1")
    log.write_bytes(b"2\n")
    async with follow(tmp_path, place) as tail:
        await tail.sees(b"1", b"2")


async def test_resume_in_a_file_that_is_gone_begins_the_log_anew_with_a_gap(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    async with follow(tmp_path) as tail:
        await tail.placed()
        place = tail.position
    other = tmp_path / "other"
    append(other, *numbered("other", 30))
    other.rename(log)
    async with follow(tmp_path, place) as tail:
        await tail.sees(*numbered("other", 30))
        assert tail.gaps == [None]


async def test_nothing_is_written_beside_the_log(follow, log, tmp_path):
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        await tail.sees(b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["cloud.log"]


async def test_a_path_that_is_hostile_is_only_a_name(follow, tmp_path):
    name = "/a $(touch gone) 'b'; \"c\" `d` \\.log"
    log = tmp_path / name[1:]
    append(log, b"0")
    async with follow(tmp_path, settings=replace(SETTINGS, path=name)) as tail:
        await tail.placed()
        append(log, b"1")
        log.rename(f"{log}.1")
        append(log, b"2")
        await tail.sees(b"1", b"2")
    assert not (tmp_path / "gone").exists()


# --- packed, dated, mixed -----------------------------------------------------------------------


def pack(path: Path) -> Path:
    """As gzip does: the plain file goes when the packed one is whole, and gives it its times."""
    packed = Path(f"{path}.gz")
    status = path.stat()
    packed.write_bytes(gzip.compress(path.read_bytes()))
    os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.unlink()
    return packed


def rename_up(log: Path, kept: int = 9) -> Path:
    """As log4j 1 and logrotate do: the lowest number is the newest."""
    for n in range(kept, 0, -1):
        for ending in ("", ".gz"):
            name = Path(f"{log}.{n}{ending}")
            if name.exists():
                name.rename(f"{log}.{n + 1}{ending}")
    return log.rename(f"{log}.1")


def copytruncate(log: Path) -> Path:
    copy = log.with_name("copying")
    shutil.copy(log, copy)
    log.rename(log.with_name("moving"))
    for n in range(9, 0, -1):
        for ending in ("", ".gz"):
            name = Path(f"{log}.{n}{ending}")
            if name.exists():
                name.rename(f"{log}.{n + 1}{ending}")
    log.with_name("moving").rename(log)
    os.truncate(log, 0)
    return copy.rename(f"{log}.1")


async def place_in(follow, tmp_path):
    async with follow(tmp_path) as tail:
        await tail.placed()
        return tail.position


async def test_a_file_that_was_packed_while_the_link_was_cut_is_read_to_its_end(
    follow, log, tmp_path
):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    append(log, b"1", b"2")
    with log.open("rb"):  # so that nobody gets its inode
        pack(rename_up(log))
        append(log, b"3")
    async with follow(tmp_path, place) as tail:
        await tail.sees(b"1", b"2", b"3")
        assert tail.gaps == []
        assert tail.position.generation == place.generation + 1


async def test_packed_files_are_read_one_after_the_other(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    lines = []
    with log.open("rb"):
        for n in range(4):
            lines += numbered(f"later {n}", 300)
            append(log, *numbered(f"later {n}", 300))
            pack(rename_up(log))
        append(log, b"last")
    async with follow(tmp_path, place) as tail:
        await tail.sees(*lines, b"last")
        assert tail.gaps == []


async def test_a_place_in_a_packed_file_is_a_place(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    append(log, *numbered("second", 10))
    packed = pack(rename_up(log))
    async with follow(tmp_path, place) as tail:
        await tail.until(lambda it: len(it.lines) == 10)
        inside = tail.position
    status = packed.stat()
    assert inside.device_inode == f"{status.st_dev}:{status.st_ino}"
    packed.rename(tmp_path / "cloud.log.2.gz")
    append(log, b"1")
    async with follow(tmp_path, inside) as tail:
        await tail.sees(b"1")
        assert tail.gaps == []


async def test_the_copy_of_copytruncate_may_be_packed_before_it_is_read(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    append(log, b"1", b"2")
    pack(copytruncate(log))
    append(log, b"3")
    async with follow(tmp_path, place) as tail:
        await tail.sees(b"1", b"2", b"3")
        assert tail.gaps == [None]


async def test_many_copies_taken_while_the_link_was_cut_are_all_read(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    lines = []
    for n in range(5):
        lines += numbered(f"later {n}", 3)
        append(log, *numbered(f"later {n}", 3))
        copytruncate(log)
    async with follow(tmp_path, place) as tail:
        append(log, b"last")
        await tail.sees(*lines, b"last")
        assert tail.gaps


@pytest.mark.parametrize("is_packed", [False, True])
async def test_a_copy_among_renamed_files_is_told_as_a_gap(follow, log, tmp_path, is_packed):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    rename_up(log)
    append(log, b"1")
    await asyncio.sleep(TICK_SECONDS)
    copy = copytruncate(log)
    if is_packed:
        pack(copy)
    append(log, b"2")
    await asyncio.sleep(TICK_SECONDS)
    rename_up(log)
    append(log, b"3")
    async with follow(tmp_path, place) as tail:
        await tail.sees(b"1", b"2", b"3")
        assert tail.gaps == [None]


async def test_a_late_line_in_a_renamed_file_makes_no_copy_of_it(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    with log.open("ab", buffering=0) as late:
        rename_up(log)
        log.touch()
        await asyncio.sleep(TICK_SECONDS)
        late.write(b"late\n")
    append(log, b"1")
    rename_up(log)
    append(log, b"2")
    async with follow(tmp_path, place) as tail:
        await tail.sees(b"late", b"1", b"2")
        assert tail.gaps == []


async def test_an_empty_log_is_renamed_over_and_over_without_a_gap(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    log.rename(tmp_path / "cloud.log.1")
    log.touch()
    async with follow(tmp_path) as tail:
        await tail.placed()
        for generation in (2, 3):
            log.rename(tmp_path / "cloud.log.1")  # the one before is thrown away
            log.touch()
            await tail.until(lambda it, wanted=generation: it.position.generation == wanted)
        append(log, b"1")
        await tail.sees(b"1")
        assert tail.gaps == []


@pytest.mark.parametrize("nuls", [60_000, 100_000, 3_000_000])
async def test_a_hole_is_read_piece_by_piece(follow, log, tmp_path, nuls):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    lines = numbered("later", 30_000)
    append(log, b"\0" * nuls, *lines)
    async with follow(tmp_path, place) as tail:
        await tail.until(lambda it: it.lines[-1:] == lines[-1:])
        assert tail.lines[1:] == lines
        assert tail.lines[0].strip(b"\0") == b""


async def test_what_came_and_went_in_an_empty_file_that_was_renamed_is_read_in_its_copy(
    follow, log, tmp_path
):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    rename_up(log)
    log.touch()
    async with follow(tmp_path, place) as tail:
        await tail.until(lambda it: it.position.generation == place.generation + 1)
        append(log, b"1")
        copytruncate(log)
        rename_up(log)
        append(log, b"2")
        await tail.sees(b"1", b"2")
        assert None in tail.gaps


@pytest.mark.parametrize("rotate", [rename_up, copytruncate, lambda log: pack(copytruncate(log))])
@pytest.mark.parametrize("content", [b"", b"a short line\n", b"half"])
async def test_a_place_in_a_young_file_is_found_again_by_the_file_before_it(
    follow, log, tmp_path, rotate, content
):
    append(log, *numbered("first", 10))
    rename_up(log)
    append(log, *numbered("second", 10))
    place = await place_in(follow, tmp_path)
    rename_up(log)
    log.write_bytes(content)
    async with follow(tmp_path, place) as tail:
        await tail.until(lambda it: it.position.generation == place.generation + 1)
        await tail.confirmed(len(content))
        young = tail.position
    known = content.split(b"\n")[:-1]
    append(log, b"", *numbered("third", 10))
    rotate(log)
    append(log, *numbered("fourth", 10))
    rotate(log)
    append(log, *numbered("fifth", 10))
    rest = [b"half"] if content == b"half" else [b""]
    async with follow(tmp_path, young) as tail:
        later = [*numbered("third", 10), *numbered("fourth", 10), *numbered("fifth", 10)]
        await tail.sees(*rest, *later)
    assert len(known) == content.count(b"\n")


async def test_what_is_written_copied_and_cut_between_two_looks_is_read(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    async with follow(tmp_path) as tail:
        await tail.placed()
        rename_up(log)
        log.touch()
        await tail.until(lambda it: it.position.generation == 2)
        append(log, b"1")
        copytruncate(log)
        append(log, b"2")
        await tail.sees(b"1", b"2")


async def test_an_empty_copy_is_a_gap_as_lines_may_have_been_cut_behind_it(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    async with follow(tmp_path) as tail:
        await tail.placed()
        rename_up(log)
        log.touch()
        await tail.until(lambda it: it.position.generation == 2)
        (tmp_path / "cloud.log.1").rename(tmp_path / "cloud.log.2")
        (tmp_path / "cloud.log.1").touch()
        append(log, b"1")
        await tail.sees(b"1")
        assert tail.gaps[:1] == [None]


async def test_empty_files_that_were_renamed_are_no_gap(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    for _ in range(3):
        rename_up(log)
        log.touch()
    async with follow(tmp_path, place) as tail:
        await tail.until(lambda it: it.position.generation == place.generation + 3)
        empty = tail.position
        append(log, b"1")
        await tail.sees(b"1")
        assert tail.gaps == []
    rename_up(log)
    append(log, b"2")
    async with follow(tmp_path, empty) as tail:
        await tail.sees(b"1", b"2")
        assert tail.gaps == []


DAILY = ["{}.2026-11-{:02}", "{}-202611{:02}", "{}-202611{:02}-1764288000"]


@pytest.mark.parametrize("form", DAILY)
async def test_a_log_that_is_renamed_by_the_day_and_packed_is_followed_without_a_gap(
    follow, log, tmp_path, form
):
    append(log, *numbered("first", 10))
    async with follow(tmp_path) as tail:
        await tail.placed()
        expected = []
        for day in range(8, 12):
            append(log, b"%d" % day)
            day_name = log.rename(form.format(log, day))
            append(day_name, b"%d, a last word" % day)
            expected += [b"%d" % day, b"%d, a last word" % day]
            pack(day_name)
            append(log, *numbered(f"day {day}", 2))
            expected += numbered(f"day {day}", 2)
            await tail.sees(*expected)
        assert tail.gaps == []


@pytest.mark.parametrize("form", [*DAILY, "{}-2026-11-27-{}"])
async def test_days_that_were_missed_are_read_in_their_order(follow, log, tmp_path, form):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    with log.open("rb"):
        for day in range(8, 12):  # with one digit and with two
            append(log, *numbered(f"of day {day}", 3))
            name = log.rename(form.format(log, day))
            if day != 11:
                pack(name)
        append(log, b"today")
    expected = [line for day in range(8, 12) for line in numbered(f"of day {day}", 3)]
    async with follow(tmp_path, place) as tail:
        await tail.sees(*expected, b"today")
        assert tail.gaps == []


async def test_two_rotators_at_once_leave_nothing_out(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    expected = []
    for n in range(1, 4):
        append(log, *numbered(f"copied {n}", 3))
        copytruncate(log)
        await asyncio.sleep(0.02)  # file systems keep time in ticks
        append(log, *numbered(f"renamed {n}", 3))
        log.rename(tmp_path / f"cloud.{n}.log")
        await asyncio.sleep(0.02)
        expected += [*numbered(f"copied {n}", 3), *numbered(f"renamed {n}", 3)]
    append(log, b"last")
    async with follow(tmp_path, place) as tail:
        await tail.sees(*expected, b"last")


async def test_the_times_of_files_in_one_row_mean_nothing(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    for n in range(4):
        append(log, *numbered(f"later {n}", 3))
        name = rename_up(log)
        os.utime(name, (1e9 - 1000 * n, 1e9 - 1000 * n))  # the clock goes back all the time
    append(log, b"last")
    expected = [line for n in range(4) for line in numbered(f"later {n}", 3)]
    async with follow(tmp_path, place) as tail:
        await tail.sees(*expected, b"last")
        assert tail.gaps == []


# --- lost and back ------------------------------------------------------------------------------


async def test_what_was_written_after_a_place_that_is_gone_is_read(follow, log, tmp_path):
    """Pruned away: all that is left was written later."""
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    for n in range(4):
        append(log, *numbered(f"later {n}", 3))
        rename_up(log)
    append(log, b"last")
    (tmp_path / "cloud.log.4").unlink()
    expected = [line for n in range(1, 4) for line in numbered(f"later {n}", 3)]
    async with follow(tmp_path, place) as tail:
        await tail.sees(*expected, b"last")
        assert tail.gaps == [None]


async def test_what_was_read_before_a_deleted_file_is_not_read_again(follow, log, tmp_path):
    append(log, *numbered("ancient", 10))
    rename_up(log)
    append(log, *numbered("old", 10))
    rename_up(log)
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    for name in tmp_path.iterdir():
        os.utime(name)  # all of it touched: the times say nothing
    log.unlink()
    append(log, b"1")
    async with follow(tmp_path, place) as tail:
        await tail.sees(b"1")
        assert tail.gaps == [None]


async def test_a_directory_that_is_deleted_and_made_anew_is_followed(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    rename_up(log)
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        await tail.sees(b"1")
        moved = tmp_path.rename(f"{tmp_path}.moved")
        shutil.rmtree(moved)
        await asyncio.sleep(0.2)
        tmp_path.mkdir()
        append(log, b"2")
        await tail.sees(b"1", b"2")
        rename_up(log)
        append(log, b"3")
        await tail.sees(b"1", b"2", b"3")
        assert tail.gaps == [None]


async def test_what_is_no_file_is_waited_for(follow, log, tmp_path):
    append(log, b"0")
    async with follow(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        await tail.sees(b"1")
        log.rename(tmp_path / "cloud.log.1")
        os.mkfifo(log)
        await asyncio.sleep(0.3)
        log.unlink()
        append(log, b"2")
        await tail.sees(b"1", b"2")
        assert tail.gaps == []


async def test_what_is_no_file_is_waited_for_from_the_start(follow, log, tmp_path):
    os.mkfifo(log)
    async with follow(tmp_path) as tail:
        await tail.until(lambda it: it.reader.is_waiting)
        log.unlink()
        append(log, b"1")
        await tail.sees(b"1")


async def test_a_packed_file_that_breaks_off_is_a_gap(follow, log, tmp_path):
    append(log, *numbered("first", 10))
    place = await place_in(follow, tmp_path)
    append(log, *(os.urandom(20).hex().encode() for _ in range(3000)))
    packed = pack(rename_up(log))
    packed.write_bytes(packed.read_bytes()[:-1000])
    append(log, b"last")
    async with follow(tmp_path, place) as tail:
        await tail.until(lambda it: it.lines[-1:] == [b"last"])
        assert tail.gaps == [None]
        assert len(tail.lines) > 2000


async def test_how_far_behind_it_is_told_while_much_is_left_and_not_for_little(
    follow, log, tmp_path
):
    append(log, b"0")
    place = await place_in(follow, tmp_path)
    append(log, *numbered("a", 200_000))
    size = log.stat().st_size
    assert size > 5 << 20
    async with follow(tmp_path, place) as tail:
        await tail.confirmed(size)
        full = [chunk for chunk in tail.chunks if chunk.behind_bytes > 0]
        assert {chunk.end.offset + chunk.behind_bytes for chunk in full[:4]} == {size}
        assert tail.chunks[-1].behind_bytes == 0
        append(log, b"1")
        await tail.confirmed(size + 2)
        assert tail.chunks[-1].lines == (b"1",)
        assert tail.chunks[-1].behind_bytes == 0
