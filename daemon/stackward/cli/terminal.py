"""What others have written, made fit for a terminal: logs hold whatever somebody put there."""


def printable(text: str) -> str:
    """The text without what would steer a terminal; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)
