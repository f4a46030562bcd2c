"""Where the built-in packs are: beside this module in a wheel, `config/` in a source tree."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def pack_directory(name: str) -> Path:
    """The directory of a built-in pack, `rules` or `patterns`."""
    installed = _HERE / "packs" / name
    if installed.is_dir():
        return installed
    return _HERE.parents[2] / "config" / name


def pack_files(name: str) -> tuple[Path, ...]:
    """The YAML files of a built-in pack, in name order."""
    return tuple(sorted(pack_directory(name).glob("*.yaml")))
