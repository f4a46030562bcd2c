"""Takes secrets out of text before it reaches a log, a metric, a page or the journal.

System VM logs hold secrets in the open: the console `sid` is the VNC password of a user's VM
(ConsoleProxy.java), the console proxy prints all its properties at start (`Property k: v`), and
4.11 prints the passwords of template servers (DownloadManagerImpl.java).

Rules of the room:

1. Better one word too many than one too few: a value is taken as far as it may reach.
2. Redacting twice is redacting once.
3. Linear time: repetitions are possessive or bounded.
"""

import re

MASK = "[redacted]"

_TELLTALE = (
    r"(?:[\w.\-]{0,60}?(?:password|passwd|passphrase|passcode|secret|credential|encryptor|"
    r"(?:api|secret|private|access|encrypt|encryption|auth|ssh)[_.\-]?key|[_.\-]token|"
    r"(?:auth|access|session|extra)[ _.\-]?token|signature|sessionkey|jsessionid)"
    r"[\w.\-]{0,40}|sid|tokens?)"
)
# A value ends at white space, a quote, or at what separates one field from the next.
_VALUE = r"""(?:"(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?|[^\s"'&,;<>]++)"""
_NEW = r"(?!\[redacted\])"

_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A private key, also one whose end was cut off.
    (
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----"
            r"(?:(?!-----END ).)*+(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?",
            re.DOTALL,
        ),
        MASK,
    ),
    # scheme://user:password@host
    (re.compile(r"(?<=://)[^\s/@:]{0,256}+:[^\s/@]{1,256}+@"), f"{MASK}@"),
    # Authorization: Basic ..., Bearer ...
    (re.compile(rf"(?i)\b((?:bearer|digest|authorization: ?basic) ++){_NEW}\S++"), rf"\1{MASK}"),
    (re.compile(rf"\b((?i:basic) ++){_NEW}(?=[^\s]*[A-Z0-9=])[\w+/]{{6,}}+=*+"), rf"\1{MASK}"),
    # ConsoleProxy: with sid: X, with sid X
    (re.compile(rf"(?i)((?>\bsid\b ?[:=]?\ *+)){_NEW}[^\s,;&]++"), rf"\1{MASK}"),
    # Property k: v, where the value may hold blanks
    (re.compile(rf"(?i)((?>\bproperty ++{_TELLTALE} ?[:=] *+)){_NEW}[^\n]++"), rf"\1{MASK}"),
    # k=v, k: v, "k": "v", k='v'
    (
        re.compile(rf"""(?i)((?<![\w.\-])(?>{_TELLTALE}["']? ?[:=] ?)){_NEW}{_VALUE}"""),
        rf"\1{MASK}",
    ),
    # --password secret
    (re.compile(rf"(?i)((?<!\S)(?>--?{_TELLTALE} ++)){_NEW}(?!-){_VALUE}"), rf"\1{MASK}"),
)

_MAY_HOLD_ONE = re.compile(
    r"(?i)://|pass|secret|credential|encryptor|key|token|signature|session|sid|bearer|basic|digest"
)
# What one rule leaves may be what another looks for; nothing real takes more than two passes.
_PASSES_MAX = 8


def redact(text: str, *, limit: int | None = None) -> str:
    """The text without its secrets, and cut to `limit` characters if one is given.

    It is cut after redacting, so that no secret loses the word by which it is known.
    """
    if _MAY_HOLD_ONE.search(text):
        for _ in range(_PASSES_MAX):
            before = text
            for pattern, replacement in _RULES:
                text = pattern.sub(replacement, text)
            if text == before:
                break
    if limit is not None and len(text) > limit:
        text = text[: max(0, limit - 1)] + "…"
    return text
