"""Which memory is asked for in huge pages; and that asking harms nothing."""

from stackward.app import huge_pages
from stackward.app.huge_pages import HUGE_BYTES, huge_stretches, use_huge_pages

MAPS = """\
555555554000-555555556000 r-xp 00000000 fe:00 1234 /usr/bin/python3
555555a00000-555556300000 rw-p 00000000 00:00 0 [heap]
7f0000001000-7f0000900000 rw-p 00000000 00:00 0
7f0001000000-7f0001200000 rw-p 00000000 00:00 0\x20
7f0002000000-7f0002100000 rw-p 00000000 00:00 0
7f0003000000-7f0003800000 rw-p 00000000 fe:00 77 /var/lib/x
7f0004000000-7f0004800000 r--p 00000000 00:00 0
7f0005000000-7f0005800000 rw-s 00000000 00:01 5 /dev/zero (deleted)
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0 [stack]
nonsense
""".splitlines()


def test_only_whole_huge_pages_of_our_own_memory_are_named():
    assert list(huge_stretches(MAPS)) == [
        (0x555555A00000, 4 * HUGE_BYTES),
        (0x7F0000200000, 3 * HUGE_BYTES),
        (0x7F0001000000, HUGE_BYTES),
    ]


def test_what_is_in_memory_stays_as_it_was():
    kept = [str(number) for number in range(200_000)]
    assert use_huge_pages() >= 0
    assert kept == [str(number) for number in range(200_000)]


def test_a_mapped_file_with_an_odd_name_is_no_trouble(tmp_path, monkeypatch):
    odd = tmp_path / "maps"
    odd.write_bytes(b"7f0000001000-7f0000900000 r-xp 00000000 fe:00 7 /opt/\xe9/libx.so\n")
    monkeypatch.setattr(huge_pages, "MAPS", odd)
    assert use_huge_pages() == 0
    monkeypatch.setattr(huge_pages, "MAPS", tmp_path / "none")
    assert use_huge_pages() == 0
