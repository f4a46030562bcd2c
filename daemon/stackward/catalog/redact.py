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
from dataclasses import dataclass

MASK = "[redacted]"

# What the name of a secret contains; `token` only as a whole word.
_NEEDLES = frozenset(
    {
        *("password", "passwd", "passphrase", "passcode", "secret", "credential", "encryptor"),
        *("signature", "sessionkey", "jsessionid", "token", "key"),
    }
)
_CORE = (
    r"(?:passw(?:or)?d|passphrase|passcode|secret|credential|encryptor|signature|jsessionid|"
    r"(?:api|secret|private|access|encrypt|encryption|auth|ssh|session)[_.\-]?key|[_.\-]token|"
    r"(?:auth|access|session|extra)[ _.\-]?token|(?<![A-Za-z_.\-])tokens?(?![\w.\-]))"
)
_NAME_TAIL = r"[\w.\-]{0,40}+"
# A value ends at white space, a quote, or at what separates one field from the next.
_VALUE = r"""(?:"(?:[^"\\\n]|\\.)*+"?|'(?:[^'\\\n]|\\.)*+'?|[^\s"'&,;<>]++)"""
_NEW = r"(?!\[redacted\])"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A pattern, tried only on a text that holds one of the needles in lower case."""

    needles: frozenset[str]
    pattern: re.Pattern[str]
    replacement: str


_RULES = (
    _Rule(  # a private key, also one whose end was cut off; keystore-cert-import has ~ for blanks
        frozenset({"private key-----", "private~key-----"}),
        re.compile(
            r"-----BEGIN[ ~][A-Z0-9 ~]{0,40}PRIVATE[ ~]KEY-----"
            r"(?:(?!-----END[ ~]).)*+(?:-----END[ ~][A-Z0-9 ~]{0,40}PRIVATE[ ~]KEY-----)?",
            re.DOTALL,
        ),
        MASK,
    ),
    _Rule(  # keystore-setup: properties, keystore, its password, days, request
        frozenset({"keystore-setup"}),
        re.compile(rf"(keystore-setup ++\S++ ++\S++ ++){_NEW}\S++"),
        rf"\1{MASK}",
    ),
    _Rule(  # scheme://user:password@host
        frozenset({"://"}), re.compile(r"(?<=://)[^\s/@:]{0,256}+:[^\s/@]{1,256}+@"), f"{MASK}@"
    ),
    _Rule(  # Authorization: Bearer ...
        frozenset({"bearer", "digest", "authorization"}),
        re.compile(rf"(?i)\b((?:bearer|digest|authorization: ?basic) ++){_NEW}\S++"),
        rf"\1{MASK}",
    ),
    _Rule(  # Basic ..., if it looks like base 64
        frozenset({"basic"}),
        re.compile(rf"\b((?i:basic) ++){_NEW}(?=[^\s]*[A-Z0-9=])[\w+/]{{6,}}+=*+"),
        rf"\1{MASK}",
    ),
    _Rule(  # ConsoleProxy: with sid: X, with sid X; also sid=X and "sid": "X"
        frozenset({"sid"}),
        re.compile(rf"""(?i)((?>\bsid\b["']? ?[:=]?\ *+["']?)){_NEW}[^\s,;&"']++"""),
        rf"\1{MASK}",
    ),
    _Rule(  # Property k: v, where the value may hold blanks
        frozenset({"property"}),
        re.compile(
            rf"(?i)((?>\bproperty ++[\w.\-]{{0,60}}?{_CORE}{_NAME_TAIL} ?[:=] *+)){_NEW}[^\n]++"
        ),
        rf"\1{MASK}",
    ),
    _Rule(  # k=v, k: v, "k": "v", k='v'
        _NEEDLES,
        re.compile(rf"""(?i)((?>{_CORE}{_NAME_TAIL}["']? ?[:=] ?)){_NEW}{_VALUE}"""),
        rf"\1{MASK}",
    ),
    _Rule(  # --password secret
        _NEEDLES,
        re.compile(
            rf"(?i)((?<!\S)(?>--?[\w.\-]{{0,60}}?{_CORE}{_NAME_TAIL} ++)){_NEW}(?!-){_VALUE}"
        ),
        rf"\1{MASK}",
    ),
)
_EVERY_NEEDLE = tuple({needle for rule in _RULES for needle in rule.needles})
# What one rule leaves may be what another looks for; nothing real takes more than two passes.
_PASSES_MAX = 8


def redact(text: str, *, limit: int | None = None) -> str:
    """The text without its secrets, and cut to `limit` characters if one is given.

    It is cut after redacting, so that no secret loses the word by which it is known.
    """
    for _ in range(_PASSES_MAX):
        before = text
        lowered = text.lower()
        present = [needle for needle in _EVERY_NEEDLE if needle in lowered]
        if not present:
            break
        for rule in _RULES:
            if not rule.needles.isdisjoint(present):
                text = rule.pattern.sub(rule.replacement, text)
        if text == before:
            break
    if limit is not None and len(text) > limit:
        text = text[: max(0, limit - 1)] + "…"
    return text
