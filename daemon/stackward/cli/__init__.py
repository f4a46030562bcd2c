"""Arguments in, exit codes out."""


def main() -> int:
    """Run the command line; the value is the exit code."""
    raise SystemExit(2)
