"""How the API says no: HTTP status equals `errorcode`, the text also in `X-Description`."""

# One text for wrong key, wrong signature, expired request and unknown command alike.
CREDENTIALS_TEXT = "unable to verify user credentials and/or request signature"

# The numbers CSExceptionErrorCode gives to the exceptions behind the codes.
_CS_CODES = {401: 9999, 430: 9999, 431: 4350, 432: 9999, 503: 9999, 530: 4250, 533: 4345}


class Refusal(Exception):
    """The answer is no. `is_anonymous`: the root key does not name the command."""

    def __init__(self, code: int, text: str, *, is_anonymous: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.is_anonymous = is_anonymous

    @property
    def headers(self) -> dict[str, str]:
        """The generic 401 comes without a description."""
        return {} if self.text == CREDENTIALS_TEXT else {"X-Description": self.text}

    def body(self, command: str) -> dict[str, object]:
        """The JSON object to send."""
        named = bool(command) and not self.is_anonymous
        root = f"{command.lower()}response" if named else "errorresponse"
        return {
            root: {
                "uuidList": [],
                "errorcode": self.code,
                "cserrorcode": _CS_CODES.get(self.code, 9999),
                "errortext": self.text,
            }
        }


def wrong_credentials() -> Refusal:
    """One answer for a wrong key, a wrong signature and an expired request."""
    return Refusal(401, CREDENTIALS_TEXT, is_anonymous=True)


def bad_parameter(text: str) -> Refusal:
    """A parameter is missing, malformed or points nowhere."""
    return Refusal(431, text)


def no_such_entity(name: str, value: str) -> Refusal:
    """What a stale uuid gets."""
    return bad_parameter(
        f"Invalid parameter {name} value={value} due to incorrect long value format, or entity "
        "does not exist or due to incorrect parameter annotation for the field in api cmd class."
    )
