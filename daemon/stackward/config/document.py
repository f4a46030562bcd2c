"""YAML text to a tree of nodes that know their file and line. What keys mean is not known here.

The tree is built from the parser's events, not by its constructors: so depth, number of values
and the growth by aliases are bounded while reading (the parser is quadratic in depth), duplicate
keys are all found, and no type but text, number, boolean and null can come out.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml import events as yaml_events
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stackward.config.files import FileProblem, read_file
from stackward.errors import ConfigMistake

BYTES_MAX = 1 << 20
DEPTH_MAX = 20
VALUES_MAX = 20_000  # aliases counted as often as they are used
MISTAKES_MAX = 100  # in one file; nobody reads more

Scalar = str | int | float | bool | None
DocumentPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the files something stands."""

    file: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One value and where it stands; in a mapping that is where its key stands."""

    value: "Scalar | tuple[Node, ...] | Mapping[str, Node]"
    place: Place

    def plain(self) -> object:
        """The value without places, as JSON has it."""
        match self.value:
            case tuple():
                return [item.plain() for item in self.value]
            case Mapping():
                return {key: item.plain() for key, item in self.value.items()}
            case _:
                return self.value

    def json(self) -> str:
        """The value as JSON: there strict validation takes a list for a tuple."""
        return json.dumps(self.plain())

    def at(self, path: DocumentPath) -> "Node":
        """The node at a path, or its nearest ancestor that is there."""
        node = self
        for step in path:
            inner = node.child(step)
            if inner is None:
                break
            node = inner
        return node

    def has(self, path: DocumentPath) -> bool:
        """True when something stands at exactly this path."""
        node: Node | None = self
        for step in path:
            node = node.child(step) if node is not None else None
        return node is not None

    def child(self, step: str | int) -> "Node | None":
        """The node one step down."""
        if isinstance(self.value, Mapping):
            return self.value.get(step) if isinstance(step, str) else None
        if isinstance(self.value, tuple) and isinstance(step, int) and step < len(self.value):
            return self.value[step]
        return None


@dataclass(frozen=True, slots=True)
class Document:
    """What one file holds. `root` None: nothing usable (see `mistakes`), or an empty file."""

    root: Node | None
    mistakes: tuple[ConfigMistake, ...] = ()


def spoken(path: DocumentPath) -> str:
    """A path as people write it: `cloudstack.endpoints[0]`, `zones["zone 1"].mode`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]{1,80}", step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step[:80])}]"
    return text


def merge(lower: Node, upper: Node) -> Node:
    """Lay one tree over another: mappings merge, everything else replaces."""
    match lower.value, upper.value:
        case Mapping() as below, Mapping() as above:
            entries = dict(below)
            for key, node in above.items():
                entries[key] = merge(entries[key], node) if key in entries else node
            return Node(entries, upper.place)
        case _:
            return upper


def read_document(path: Path) -> Document:
    """Read one YAML file. An empty file is a document without root and without mistake."""
    match read_file(path, bytes_max=BYTES_MAX):
        case FileProblem(message, hint):
            return Document(None, (ConfigMistake(str(path), "", None, message, hint),))
        case found:
            return parse_document(found.content, str(path))


def parse_document(content: bytes, file: str) -> Document:
    """Parse YAML. `file` is only for the places."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        mistake = ConfigMistake(file, "", line, "is not UTF-8 text", "save the file as UTF-8")
        return Document(None, (mistake,))
    builder = _Builder(file)
    try:
        for event in _events(text):
            builder.take(event)
    except _Refused as refused:
        return Document(None, (*builder.mistakes, refused.mistake))
    except YAMLError as error:
        return Document(None, (*builder.mistakes, _syntax_mistake(error, file)))
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
        # The parser's own slips on crafted escapes and directives.
        mistake = ConfigMistake(file, "", builder.line, "is not YAML that can be read")
        return Document(None, (*builder.mistakes, mistake))
    return Document(builder.root, tuple(builder.mistakes))


def _events(text: str) -> Iterator[yaml_events.Event]:
    """The parser's events, lazily, so that whoever counts can stop it."""
    events: Iterable[yaml_events.Event] = YAML(typ="safe", pure=True).parse(text)
    yield from events


class _Refused(Exception):
    """The rest of the document is not worth reading."""

    def __init__(self, mistake: ConfigMistake) -> None:
        super().__init__()
        self.mistake = mistake


@dataclass(slots=True)
class _Frame:
    """A collection being read. `entries` None: it is a list."""

    path: DocumentPath
    place: Place
    anchor: str | None
    entries: dict[str, Node] | None
    weight_before: int
    items: list[Node] = field(default_factory=list)
    key: str | None = None
    key_place: Place | None = None


class _Builder:
    """Builds the tree from events, with limits."""

    def __init__(self, file: str) -> None:
        self.root: Node | None = None
        self.mistakes: list[ConfigMistake] = []
        self.line = 1
        self._file = file
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._weight = 0
        self._documents = 0

    def take(self, event: yaml_events.Event) -> None:
        """Take one event."""
        self.line = event.start_mark.line + 1
        match event:
            case yaml_events.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise self._refused("holds a second document", "remove the line with ---")
            case yaml_events.ScalarEvent():
                self._take_scalar(event)
            case yaml_events.AliasEvent():
                self._take_alias(event)
            case yaml_events.MappingStartEvent():
                self._open(event, {})
            case yaml_events.SequenceStartEvent():
                self._open(event, None)
            case yaml_events.MappingEndEvent() | yaml_events.SequenceEndEvent():
                self._close()
            case _:
                pass  # starts and ends of stream and document

    def _take_scalar(self, event: yaml_events.ScalarEvent) -> None:
        self._refuse_tag(event)
        if not event.value.isascii() and re.search(r"[\ud800-\udfff]", event.value):
            raise self._refused("holds half a character", "remove the \\u escape")
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.entries is not None and frame.key is None:
            self._take_key(frame, event.value)
            return
        self._weigh(1)
        value: Scalar = event.value if event.style else self._resolve(event.value)
        self._put(Node(value, self._place()), event.anchor, 1)

    def _take_key(self, frame: _Frame, key: str) -> None:
        if frame.entries is not None and key in frame.entries:
            first = frame.entries[key].place.line
            message = f"is given twice; the first is in line {first}"
            self._note(message, "keep one", (*frame.path, key))
        if key == "<<":
            self._note("merge keys (<<) are not read here", "write the keys out", frame.path)
        frame.key, frame.key_place = key, self._place()

    def _take_alias(self, event: yaml_events.AliasEvent) -> None:
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.entries is not None and frame.key is None:
            raise self._refused("a key must be a word")
        if event.anchor not in self._anchors:
            raise self._refused("an alias (*) names no anchor (&) before it", "quote the text")
        node, weight = self._anchors[event.anchor]
        self._weigh(weight)
        self._put(replace(node, place=self._place()), None, weight)

    def _open(
        self, event: yaml_events.CollectionStartEvent, entries: dict[str, Node] | None
    ) -> None:
        self._refuse_tag(event)
        if len(self._frames) >= DEPTH_MAX:
            raise self._refused(f"is nested deeper than {DEPTH_MAX} levels")
        frame = self._frames[-1] if self._frames else None
        if frame is not None and frame.entries is not None and frame.key is None:
            raise self._refused("a key must be a word")
        self._weigh(1)
        place = frame.key_place if frame and frame.key_place else self._place()
        path = self._path()
        self._frames.append(_Frame(path, place, event.anchor, entries, self._weight - 1))

    def _close(self) -> None:
        frame = self._frames.pop()
        value = tuple(frame.items) if frame.entries is None else frame.entries
        self._put(Node(value, frame.place), frame.anchor, self._weight - frame.weight_before)

    def _put(self, node: Node, anchor: str | None, weight: int) -> None:
        """Give a finished value to the collection around it."""
        if anchor is not None:
            self._anchors[anchor] = (node, weight)
        if not self._frames:
            self.root = node
            return
        frame = self._frames[-1]
        if frame.entries is None:
            frame.items.append(node)
        elif frame.key is not None and frame.key_place is not None:
            frame.entries[frame.key] = replace(node, place=frame.key_place)
            frame.key = frame.key_place = None

    def _resolve(self, text: str) -> Scalar:
        """A plain scalar's meaning: the core schema of YAML 1.2 without octal and hexadecimal."""
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            return text[0] in "tT"
        if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
            return int(text)
        if len(text) <= 40 and re.fullmatch(
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", text
        ):
            number = float(text)
            return number if math.isfinite(number) else text
        return text

    def _weigh(self, weight: int) -> None:
        self._weight += weight
        if self._weight > VALUES_MAX:
            raise self._refused(f"holds more than {VALUES_MAX} values")

    def _refuse_tag(
        self, event: yaml_events.ScalarEvent | yaml_events.CollectionStartEvent
    ) -> None:
        if event.tag is not None:
            raise self._refused("tags (!) are not used here", "quote text that starts with !")

    def _path(self) -> DocumentPath:
        """The path of the value that comes next."""
        if not self._frames:
            return ()
        frame = self._frames[-1]
        return (*frame.path, len(frame.items) if frame.key is None else frame.key)

    def _place(self) -> Place:
        return Place(self._file, self.line)

    def _note(self, message: str, hint: str, path: DocumentPath) -> None:
        self.mistakes.append(self._mistake(message, hint, path))
        if len(self.mistakes) >= MISTAKES_MAX:
            raise self._refused("there may be more mistakes")

    def _refused(self, message: str, hint: str = "") -> _Refused:
        path = self._frames[-1].path if self._frames else ()
        return _Refused(self._mistake(message, hint, path))

    def _mistake(self, message: str, hint: str, path: DocumentPath) -> ConfigMistake:
        """The path goes down to the option: deeper keys may be somebody's secret, gone astray."""
        return ConfigMistake(self._file, spoken(path[:2]), self.line, message, hint)


def _syntax_mistake(error: YAMLError, file: str) -> ConfigMistake:
    """The parser's complaint without the text it complains about."""
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    line = mark.line + 1 if mark is not None else None
    problem = str(error.problem or "") if isinstance(error, MarkedYAMLError) else ""
    if "'\\t'" in problem:
        return ConfigMistake(file, "", line, "a tab where YAML allows none", "indent with spaces")
    if "mapping values are not allowed" in problem:
        hint = "a colon too many, or a wrong indent; quote text that holds ': '"
        return ConfigMistake(file, "", line, "is not YAML: a ':' where none may stand", hint)
    if isinstance(error, MarkedYAMLError):
        shown = re.sub(r"'([^']*)'", _shown, problem)[:120]
        return ConfigMistake(file, "", line, f"is not YAML: {shown}", "look at this line and above")
    return ConfigMistake(file, "", line, "holds a character that YAML does not allow")


def _shown(quoted: re.Match[str]) -> str:
    """Kinds of tokens stand in <>; whatever else is quoted and long may come from the file."""
    is_ours = len(quoted[1]) < 2 or quoted[1].startswith("<")
    return quoted[0] if is_ours else "something else"
