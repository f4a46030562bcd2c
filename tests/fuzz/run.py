"""One reader in a process of its own.

python -m tests.fuzz.run READER FILE...               try these inputs once: what a finding repeats
python -m tests.fuzz.run READER --seconds N --keep D  let atheris look for findings, into D
"""

import argparse
import importlib
import sys
import tempfile
import time
import zlib
from pathlib import Path

from tests.fuzz.growth import check_memory, check_time
from tests.fuzz.seeds import seeds

ROOMS = ("log_files", "log_tail", "mentions", "records", "redact", "sieve", "signatures")
STARTED = time.monotonic()
ONE_INPUT_SECONDS = 60  # by the wall clock, on a machine that may have others to serve
MEMORY_MB = 1500
INPUT_BYTES_MAX = 4096
# Which inputs are measured is a matter of their bytes alone, so a finding can be repeated.
TIMED_ONE_IN = 40
WEIGHED_ONE_IN = 3000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--keep", type=Path, default=Path(".fuzz"))
    arguments = parser.parse_args()
    if arguments.seconds is None:
        return repeat(arguments.reader, arguments.files)
    look_for_findings(arguments.reader, arguments.seconds, arguments.keep)
    return 0  # never reached: libFuzzer ends the process


def repeat(name: str, files: list[Path]) -> int:
    reader = readers()[name]
    for file in files:
        data = file.read_bytes()
        reader.check(data)
        check_time(reader.read, data)
        if not reader.is_given_whole:
            check_memory(reader.read, data)
        print(f"{file}: nothing found")
    return 0


def look_for_findings(name: str, seconds: float, keep: Path) -> None:
    atheris = importlib.import_module("atheris")  # not to be had everywhere
    with atheris.instrument_imports(include=["stackward"]):
        # What is imported here is traced; the rest of the program is not what is looked into.
        for room in ROOMS:
            importlib.import_module(f"stackward.catalog.{room}")
    with atheris.instrument_imports(include=["tests"]):
        importlib.import_module("tests.fuzz.planted")
    reader = readers()[name]

    def one_input(data: bytes) -> None:
        reader.check(data)
        dice = zlib.crc32(data)
        if dice % TIMED_ONE_IN == 0:
            check_time(reader.read, data)
        if dice % WEIGHED_ONE_IN == 1 and not reader.is_given_whole:
            check_memory(reader.read, data)

    keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="stackward-fuzz-") as corpus:
        for number, seed in enumerate(seeds(name)):
            Path(corpus, f"seed-{number}").write_bytes(seed)
        reader.prepare()
        one_input(seeds(name)[0])  # what is loaded once is loaded before the clock runs
        left = max(2, round(seconds - (time.monotonic() - STARTED)))
        options = [
            f"-max_total_time={left}",
            f"-timeout={ONE_INPUT_SECONDS}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-max_len={INPUT_BYTES_MAX}",
            f"-artifact_prefix={keep}/{name}-",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], one_input)
        atheris.Fuzz()


def readers():
    """All of them, imported only now: what atheris traces it must see imported."""
    planted = importlib.import_module("tests.fuzz.planted").PLANTED
    return {**importlib.import_module("tests.fuzz.readers").READERS, **planted}


if __name__ == "__main__":
    sys.exit(main())
