"""Rule packs: YAML files to `core.policy.Rule`, the built-in ones and the operator's.

A rule says what to do about a diagnosis; what a diagnosis is, the core knows. Rules of operators
stand before the built-in ones, in the order of their files; the first that fits a VM counts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from stackward.config.document import DocumentPath, Node, read_document, spoken
from stackward.config.files import FileProblem, expand
from stackward.config.mistakes import Words, did_you_mean, mistakes_of
from stackward.config.packs import pack_files
from stackward.config.schema import RulesSettings
from stackward.config.strict import Name, StrictModel
from stackward.core.policy import Rule, Rung
from stackward.errors import ConfigMistake
from stackward.model.diagnosis import DiagnosisCode
from stackward.model.identity import VmRole
from stackward.model.plan import ActionName, Mode

EVERY_ZONE = "*"

# From the gentlest to the most drastic: a ladder only goes up.
BOLDNESS: tuple[ActionName, ...] = (ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM)

# The agent is dead in these. In every other it may be alive, and copying: a restart would end that.
AGENT_IS_DEAD = frozenset({DiagnosisCode.AGENT_DOWN, DiagnosisCode.AGENT_STOPPED})

# These are about a zone, a hypervisor or the cloud: there is no one VM to act upon.
WIDE = frozenset(
    {
        DiagnosisCode.ZONE_WIDE_FAILURE,
        DiagnosisCode.JUMP_UNREACHABLE,
        DiagnosisCode.CLOUD_API_UNREACHABLE,
        DiagnosisCode.STORM,
    }
)


class RungSettings(StrictModel):
    """One step of a ladder."""

    action: ActionName
    """What to do."""
    attempts_max: Annotated[int, Field(ge=1, le=5)] = Rung(action=BOLDNESS[0]).attempts_max
    """How often within one episode. What did not help twice will hardly help five times."""
    cooldown_seconds: Annotated[float, Field(ge=1, le=86400)] = Rung(
        action=BOLDNESS[0]
    ).cooldown.total_seconds()
    """Seconds after this action before any other on the same VM. Longer than
    `verify_within_seconds`, or the next step comes before this one has been judged."""
    verify_within_seconds: Annotated[float, Field(ge=1, le=3600)] = Rung(
        action=BOLDNESS[0]
    ).verify_within.total_seconds()
    """Seconds in which the proof of success must be seen. Too short: what worked counts as
    failed, and the next rung follows."""


class RuleSettings(StrictModel):
    """What to do about one diagnosis."""

    name: Name
    """Name of the rule, shown wherever it counts; one rule has it."""
    diagnosis: DiagnosisCode
    """The diagnosis that the rule is for."""
    roles: tuple[VmRole, ...]
    """Roles of the VMs that it is for. An empty list matches nothing."""
    zones: tuple[Name, ...]
    """Names of the zones that it is for; `["*"]` is every zone, later ones too. An empty list
    matches nothing."""
    stands_for_seconds: Annotated[float, Field(ge=0, le=86400)]
    """Seconds that the diagnosis must have stood before the first step. 0 acts on the first sure
    sign, when much heals by itself."""
    mode: Mode
    """How far the daemon may go by this rule. The global mode and the zone's can only make it more
    careful."""
    replaces: bool = False
    """Say true to put this rule in the place of an earlier one of the same name."""
    ladder: Annotated[tuple[RungSettings, ...], Field(max_length=5)]
    """What to do, from the gentlest to the most drastic; past its end a person is called. An empty
    ladder calls a person at once."""


class RuleFile(StrictModel):
    """A file of rules."""

    rules: Annotated[tuple[RuleSettings, ...], Field(max_length=1000)]
    """The rules, in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class PlacedRule:
    """A rule and where it stands. `node` is its place in the document of `file`."""

    rule: RuleSettings
    file: str
    path: DocumentPath
    root: Node
    is_builtin: bool

    def mistake(self, message: str, hint: str = "", *inner: str | int) -> ConfigMistake:
        """A mistake at this rule, or at a place inside it."""
        path = (*self.path, *inner)
        return ConfigMistake(self.file, spoken(path), self.root.at(path).place.line, message, hint)


@dataclass(slots=True)
class RuleBook:
    """The rules in force, compiled and as `said`, and what was found out on the way to them."""

    rules: tuple[Rule, ...] = ()
    said: tuple[RuleSettings, ...] = ()
    files: tuple[Path, ...] = ()
    mistakes: list[ConfigMistake] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load_rules(settings: RulesSettings, root: Node, base: Path) -> RuleBook:
    """Load every rule in force. `root` is the main document, for the places of its mistakes."""
    book = RuleBook()
    own = _expand_files(settings.files, root, base, book)
    builtin = pack_files("rules") if settings.builtin else ()
    book.files = (*own, *builtin)
    found_before = len(book.mistakes)
    rules = [rule for file in own for rule in _read(file, book, is_builtin=False)]
    rules += [rule for file in builtin for rule in _read(file, book, is_builtin=True)]
    is_whole = len(book.mistakes) == found_before
    for placed in rules:
        book.mistakes += _mistakes_in(placed)
        book.warnings += _warnings_about(placed)
    rules = _replace(rules, book)
    if is_whole:  # else a name may belong to a rule that could not be read
        rules = _switch_off(rules, settings.switch_off, root, book)
    book.said = tuple(placed.rule for placed in rules)
    book.warnings += _overlaps(book.said)
    book.rules = tuple(_compile(rule) for rule in book.said)
    return book


def _expand_files(
    patterns: Sequence[str], root: Node, base: Path, book: RuleBook
) -> tuple[Path, ...]:
    files: dict[Path, None] = {}
    for number, pattern in enumerate(patterns):
        match expand(pattern, base):
            case FileProblem(message, hint):
                path: DocumentPath = ("rules", "files", number)
                place = root.at(path).place
                mistake = ConfigMistake(place.file, spoken(path), place.line, message, hint)
                book.mistakes.append(mistake)
            case found:
                files.update(dict.fromkeys(found))
    return tuple(files)


def _read(file: Path, book: RuleBook, *, is_builtin: bool) -> Iterable[PlacedRule]:
    """Read one rule file; an empty one holds no rules."""
    document = read_document(file)
    book.mistakes += document.mistakes
    if document.root is None:
        return
    if document.mistakes:
        return
    try:
        parsed = RuleFile.model_validate_json(document.root.json())
    except ValidationError as error:
        book.mistakes += mistakes_of(error, document.root, Words.of(RuleFile), str(file))
        return
    for number, rule in enumerate(parsed.rules):
        yield PlacedRule(rule, str(file), ("rules", number), document.root, is_builtin)


def _mistakes_in(placed: PlacedRule) -> Iterable[ConfigMistake]:
    """What is wrong with one rule by itself."""
    rule = placed.rule
    if rule.diagnosis in WIDE and rule.ladder:
        yield placed.mistake(
            f"{rule.diagnosis} is about many VMs at once and has no ladder", "ladder: []", "ladder"
        )
    if EVERY_ZONE in rule.zones and len(rule.zones) > 1:
        yield placed.mistake('"*" already is every zone', 'write zones: ["*"]', "zones")
    if len({zone.casefold() for zone in rule.zones}) < len(rule.zones):
        yield placed.mistake("names a zone twice", "keep one", "zones")
    for number, rung in enumerate(rule.ladder):
        if rung.cooldown_seconds <= rung.verify_within_seconds:
            yield placed.mistake(
                "must be longer than verify_within_seconds",
                f"more than {rung.verify_within_seconds:g} seconds",
                "ladder",
                number,
                "cooldown_seconds",
            )
        if rung.action is ActionName.RESTART_AGENT and rule.diagnosis not in AGENT_IS_DEAD:
            allowed = " and ".join(sorted(AGENT_IS_DEAD))
            yield placed.mistake(
                f"restart-agent is not for {rule.diagnosis}: the agent may be alive and copying",
                f"only {allowed} say that it is dead; leave the rung out",
                "ladder",
                number,
                "action",
            )
        yield from _climb(placed, number, rung.action)


def _climb(placed: PlacedRule, number: int, action: ActionName) -> Iterable[ConfigMistake]:
    """A ladder goes up, one rung per action."""
    before = [rung.action for rung in placed.rule.ladder[:number]]
    if action in before:
        hint = "raise attempts_max of the first one instead"
        yield placed.mistake("repeats an action", hint, "ladder", number, "action")
    elif any(BOLDNESS.index(earlier) > BOLDNESS.index(action) for earlier in before):
        hint = f"the order is {', '.join(BOLDNESS)}"
        yield placed.mistake("goes back down", hint, "ladder", number, "action")


def _warnings_about(placed: PlacedRule) -> Iterable[str]:
    rule = placed.rule
    for name, listed in (("zones", rule.zones), ("roles", rule.roles)):
        if not listed:
            yield f"rule {rule.name}: {name} is empty, so it matches nothing"
    if rule.diagnosis is DiagnosisCode.AGENT_DISCONNECTED and rule.ladder:
        what = "an agent that is only disconnected may be copying, and a reboot ends that"
        yield f"rule {rule.name}: {what}"


def _replace(rules: Sequence[PlacedRule], book: RuleBook) -> list[PlacedRule]:
    """Let rules that say so take the place of others; two of one name are a mistake otherwise."""
    chosen: dict[str, PlacedRule] = {}
    builtin = {placed.rule.name: placed for placed in rules if placed.is_builtin}
    for placed in rules:
        name = placed.rule.name
        first = chosen.get(name)
        if first is None:
            chosen[name] = placed
            if placed.rule.replaces and name not in builtin:
                hint = did_you_mean(name, sorted(builtin))
                book.mistakes.append(
                    placed.mistake("replaces a rule that is not there", hint, "replaces")
                )
        elif not placed.is_builtin or first.is_builtin:
            place = first.mistake("", "", "name")
            book.mistakes.append(
                placed.mistake(
                    f"has the name of the rule in {place.file}:{place.line}",
                    "give it another name",
                    "name",
                )
            )
        elif not first.rule.replaces:
            book.mistakes.append(
                first.mistake(
                    "has the name of a built-in rule",
                    "give it another name, or add replaces: true",
                    "name",
                )
            )
    return list(chosen.values())


def _switch_off(
    rules: Sequence[PlacedRule], names: Sequence[str], root: Node, book: RuleBook
) -> list[PlacedRule]:
    known = sorted(placed.rule.name for placed in rules)
    for number, name in enumerate(names):
        if name not in known:
            path: DocumentPath = ("rules", "switch_off", number)
            place = root.at(path).place
            hint = did_you_mean(name, known)
            message = "no rule has this name"
            mistake = ConfigMistake(place.file, spoken(path), place.line, message, hint)
            book.mistakes.append(mistake)
    return [placed for placed in rules if placed.rule.name not in names]


def _overlaps(rules: Sequence[RuleSettings]) -> Iterable[str]:
    """Pairs of rules that fit the same VMs: the later one is never reached there."""
    by_diagnosis: dict[DiagnosisCode, list[RuleSettings]] = {}
    for rule in rules:
        for first in by_diagnosis.get(rule.diagnosis, ()):
            if set(first.roles) & set(rule.roles) and _share_a_zone(first, rule):
                both = f"rules {first.name} and {rule.name} fit the same VMs"
                yield f"{both}; {first.name} counts there"
        by_diagnosis.setdefault(rule.diagnosis, []).append(rule)


def _share_a_zone(first: RuleSettings, second: RuleSettings) -> bool:
    """A rule for named zones before one for every zone is the usual exception, not an overlap."""
    if EVERY_ZONE in first.zones:
        return bool(second.zones)
    return bool(set(first.zones) & set(second.zones))


def _compile(rule: RuleSettings) -> Rule:
    return Rule(
        name=rule.name,
        diagnosis=rule.diagnosis,
        roles=frozenset(rule.roles),
        zones=frozenset(rule.zones) - {EVERY_ZONE},
        every_zone=EVERY_ZONE in rule.zones,
        stands_for=timedelta(seconds=rule.stands_for_seconds),
        mode=rule.mode,
        ladder=tuple(
            Rung(
                action=rung.action,
                attempts_max=rung.attempts_max,
                cooldown=timedelta(seconds=rung.cooldown_seconds),
                verify_within=timedelta(seconds=rung.verify_within_seconds),
            )
            for rung in rule.ladder
        ),
    )
