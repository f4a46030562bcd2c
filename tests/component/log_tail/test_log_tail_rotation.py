"""The real script on real files: no line that still exists is lost, and none comes twice."""

import asyncio
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.component.log_tail.following import NONCE, SETTINGS, following

from stackward.catalog.log_tail import log_tail_script


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as log:
        log.write(b"".join(line + b"\n" for line in lines))


def numbered(word: str, count: int) -> list[bytes]:
    return [f"2025-06-23T06:50:39,{n:03} {word} line {n}".encode() for n in range(count)]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "cloud.log"


async def test_without_a_place_it_begins_at_the_end(log, tmp_path):
    append(log, b"old", b"older")
    async with following(tmp_path) as tail:
        await tail.placed()
        assert tail.lines == []
        assert tail.position.offset == log.stat().st_size
        append(log, b"new")
        await tail.sees(b"new")


async def test_the_end_is_moved_back_to_the_beginning_of_its_line(log, tmp_path):
    log.write_bytes(b"whole\nhalf")
    async with following(tmp_path) as tail:
        await tail.placed()
        assert tail.position.offset == len(b"whole\n")
        append(log, b" and the rest")
        await tail.sees(b"half and the rest")


async def test_a_place_names_the_open_file_and_its_first_bytes(log, tmp_path):
    append(log, *numbered("a", 20))
    async with following(tmp_path) as tail:
        await tail.placed()
        status = log.stat()
        assert tail.position.device_inode == f"{status.st_dev}:{status.st_ino}"
        assert tail.position.fingerprint_bytes == 256
        assert tail.position.generation == 1


async def test_a_growing_line_is_given_once_it_is_whole(log, tmp_path):
    append(log, b"first")
    async with following(tmp_path) as tail:
        await tail.placed()
        for piece in (b"a", b"b", b"c"):
            with log.open("ab") as half:
                half.write(piece)
            size = log.stat().st_size
            await tail.confirmed(size)
            assert tail.lines == []
        append(log, b"d")
        await tail.sees(b"abcd")


async def test_the_fingerprint_grows_with_a_young_file(log, tmp_path):
    log.touch()
    async with following(tmp_path) as tail:
        await tail.placed()
        assert tail.position.fingerprint_bytes == 0
        append(log, b"short")
        await tail.until(lambda it: it.position.fingerprint_bytes == 6)
        append(log, *numbered("a", 20))
        await tail.until(lambda it: it.position.fingerprint_bytes == 256)
        young = tail.position
    async with following(tmp_path, young) as tail:
        await tail.placed()
        assert tail.position == young


async def test_binary_bytes_come_as_they_are(log, tmp_path):
    append(log, b"text")
    every_byte = bytes(n for n in range(256) if n != 10)
    lines = [every_byte, b"\0\0\0", b"", b"\xff\xfe", b"\0" + b"x" * 20000 + b"\0", b"\r"]
    async with following(tmp_path) as tail:
        await tail.placed()
        for line in lines:
            append(log, line)
            await asyncio.sleep(0.03)
        append(log, *lines)
        await tail.sees(*lines, *lines)


async def test_a_big_burst_comes_whole(log, tmp_path):
    log.touch()
    lines = [b"%07d " % n + b"x" * 90 for n in range(60_000)]
    async with following(tmp_path) as tail:
        await tail.placed()
        append(log, *lines)
        await tail.sees(*lines)


async def test_rename_upwards_the_lowest_number_is_newest(log, tmp_path):
    append(log, b"0")
    async with following(tmp_path) as tail:
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


async def test_rename_downwards_the_highest_number_is_newest(log, tmp_path):
    append(log, b"0")
    async with following(tmp_path) as tail:
        await tail.placed()
        for n in range(1, 5):
            append(log, b"%d" % n)
            log.rename(tmp_path / f"cloud.{n}.log")
        append(log, b"5")
        await tail.sees(b"1", b"2", b"3", b"4", b"5")
        assert tail.gaps == []


async def test_copytruncate_reads_the_rest_from_the_copy(log, tmp_path):
    first = numbered("first", 10)
    append(log, *first)
    async with following(tmp_path) as tail:
        await tail.placed()
        append(log, b"1", b"2")
        shutil.copy(log, tmp_path / "cloud.log.1")
        log.write_bytes(b"")
        append(log, b"3")
        await tail.sees(b"1", b"2", b"3")
        assert tail.gaps == [None]
        append(log, b"4")
        await tail.sees(b"1", b"2", b"3", b"4")


async def test_truncation_without_a_copy_is_a_gap_of_unknown_size(log, tmp_path):
    append(log, *numbered("first", 10))
    async with following(tmp_path) as tail:
        await tail.placed()
        old = tail.position
        log.write_bytes(b"")
        append(log, b"new")
        await tail.sees(b"new")
        assert tail.gaps == [None]
        assert tail.position.generation == old.generation + 1


async def test_truncation_and_growth_beyond_the_old_end_is_seen(log, tmp_path):
    append(log, *numbered("first", 3))
    async with following(tmp_path) as tail:
        await tail.placed()
        with log.open("r+b") as writer:
            writer.truncate(0)
            writer.write(b"".join(line + b"\n" for line in numbered("second", 50)))
        await tail.sees(*numbered("second", 50))
        assert tail.gaps == [None]


async def test_a_cut_to_a_length_that_is_not_zero_is_seen_with_the_next_sign_of_life(log, tmp_path):
    lines = numbered("first", 20)
    append(log, *lines)
    async with following(tmp_path) as tail:
        await tail.placed()
        with log.open("r+b") as writer:
            writer.truncate(log.stat().st_size // 2)
        tail.keepalive()
        await tail.until(lambda it: bool(it.gaps))
        assert tail.gaps == [None]


async def test_both_rotations_at_once(log, tmp_path):
    append(log, *numbered("first", 10))
    async with following(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        shutil.copy(log, tmp_path / "cloud.log.1")
        log.write_bytes(b"")
        append(log, b"2")
        (tmp_path / "cloud.log.1").rename(tmp_path / "cloud.log.2")
        log.rename(tmp_path / "cloud.log.1")
        append(log, b"3")
        await tail.sees(b"1", b"2", b"3")


async def test_a_deleted_and_new_made_log_is_followed_with_a_gap(log, tmp_path):
    append(log, b"0")
    async with following(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        log.unlink()
        append(log, b"2")
        await tail.sees(b"1", b"2")
        assert tail.gaps == [None]


async def test_older_rotated_files_are_not_read_again_after_a_deletion(log, tmp_path):
    append(tmp_path / "cloud.log.1", b"ancient")
    append(log, b"0")
    async with following(tmp_path) as tail:
        await tail.placed()
        await asyncio.sleep(0.05)  # file systems keep time in ticks: the write must be younger
        append(log, b"1")
        log.unlink()
        append(log, b"2")
        await tail.sees(b"1", b"2")


async def test_a_last_line_without_an_end_is_given_when_the_file_has_ended(log, tmp_path):
    append(log, b"0")
    async with following(tmp_path) as tail:
        await tail.placed()
        with log.open("ab") as writer:
            writer.write(b"unended")
        log.rename(tmp_path / "cloud.log.1")
        append(log, b"2")
        await tail.sees(b"unended", b"2")


async def test_a_log_that_is_missing_is_waited_for(log, tmp_path):
    async with following(tmp_path) as tail:
        await tail.until(lambda it: it.reader.is_waiting)
        append(log, b"1")
        await tail.sees(b"1")


async def test_resume_goes_on_where_it_stopped(log, tmp_path):
    append(log, b"0")
    async with following(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        await tail.sees(b"1")
        place = tail.position
    append(log, b"2")
    async with following(tmp_path, place) as tail:
        await tail.sees(b"2")
        assert tail.gaps == []
        assert tail.position.generation == place.generation


@pytest.mark.parametrize("names", [("cloud.log.1", "cloud.log.2"), ("cloud.2.log", "cloud.1.log")])
async def test_resume_after_two_rotations_reads_all_files_in_order(log, tmp_path, names):
    newer, older = (tmp_path / name for name in names)
    append(log, *numbered("first", 5))
    async with following(tmp_path) as tail:
        await tail.placed()
        place = tail.position
    append(log, b"1")
    log.rename(older)
    append(log, b"2")
    log.rename(newer)
    append(log, b"3")
    async with following(tmp_path, place) as tail:
        await tail.sees(b"1", b"2", b"3")
        assert tail.gaps == []
        assert tail.position.generation == place.generation + 2


async def test_resume_after_copytruncate_reads_the_copy_first(log, tmp_path):
    append(log, *numbered("first", 10))
    async with following(tmp_path) as tail:
        await tail.placed()
        place = tail.position
    append(log, b"1")
    shutil.copy(log, tmp_path / "cloud.log.1")
    log.write_bytes(b"2\n")
    async with following(tmp_path, place) as tail:
        await tail.sees(b"1", b"2")


async def test_resume_in_a_file_that_is_gone_begins_the_log_anew_with_a_gap(log, tmp_path):
    append(log, *numbered("first", 10))
    async with following(tmp_path) as tail:
        await tail.placed()
        place = tail.position
    other = tmp_path / "other"
    append(other, *numbered("other", 30))
    other.rename(log)
    async with following(tmp_path, place) as tail:
        await tail.sees(*numbered("other", 30))
        assert tail.gaps == [None]


async def test_silence_of_our_side_ends_the_script(log, tmp_path):
    append(log, b"0")
    short = replace(SETTINGS, dead_man=timedelta(milliseconds=200))
    async with following(tmp_path, settings=short) as tail:
        await tail.placed()
        await tail.ended()
        assert tail.process.returncode == 0


async def test_a_closed_channel_ends_the_script(log, tmp_path):
    append(log, b"0")
    async with following(tmp_path) as tail:
        await tail.placed()
        assert tail.process.stdin is not None
        tail.process.stdin.close()
        await tail.ended()


async def test_half_a_script_does_nothing(log, tmp_path):
    append(log, b"0")
    script = log_tail_script(SETTINGS, None, nonce=NONCE)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "--norc",
        "--noprofile",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "STACKWARD_ROOT": str(tmp_path)},
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate(script[: len(script) * 3 // 4])
    assert output == b""


async def test_nothing_is_written_beside_the_log(log, tmp_path):
    append(log, b"0")
    async with following(tmp_path) as tail:
        await tail.placed()
        append(log, b"1")
        await tail.sees(b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["cloud.log"]


async def test_a_path_that_is_hostile_is_only_a_name(tmp_path):
    name = "/a $(touch gone) 'b'; \"c\" `d` \\.log"
    log = tmp_path / name[1:]
    append(log, b"0")
    async with following(tmp_path, settings=replace(SETTINGS, path=name)) as tail:
        await tail.placed()
        append(log, b"1")
        log.rename(f"{log}.1")
        append(log, b"2")
        await tail.sees(b"1", b"2")
    assert not (tmp_path / "gone").exists()
