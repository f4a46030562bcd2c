"""Loading: the main file and its drop-ins to settings, and everything to one `Configuration`.

The main file comes first, then `stackward.d/*.yaml` beside it in name order: mappings merge,
everything else replaces. A reload calls the same function, so bad never replaces good.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from pydantic import ValidationError

from stackward.catalog.log_files import LogSource
from stackward.catalog.signatures import SignatureSet
from stackward.config.compile import compile_policy, mistakes_between, warnings_about
from stackward.config.document import (
    BYTES_MAX,
    DocumentPath,
    Node,
    Place,
    merge,
    read_document,
    spoken,
)
from stackward.config.files import FileBytes, FileProblem, expand, read_file
from stackward.config.mistakes import Words, mistakes_of
from stackward.config.packs import pack_files
from stackward.config.patterns import load_patterns
from stackward.config.rules import RuleBook, load_rules
from stackward.config.schema import Settings, anchored
from stackward.config.secrets import Fetched, NotFetched, Secret, SecretRef, Use, fetch
from stackward.core.policy import Policy
from stackward.errors import ConfigError, ConfigMistake

DROP_IN_DIRECTORY = "stackward.d"
DROP_INS_MAX = 100
LOGS = "management_logs"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings as they stand in the files. `root` is the merged document, for places."""

    settings: Settings
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    root: Node
    base: Path

    def locate(self, path: DocumentPath, other: DocumentPath | None = None) -> Place:
        """Where an option stands, else its neighbour, else where it would have to."""
        if other is not None and not self.root.has(path) and self.root.has(other):
            return self.root.at(other).place
        return self.root.at(path).place


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Every secret that the settings name. `database_password` None: there is no database."""

    api_key: Secret
    secret_key: Secret
    database_password: Secret | None = None
    vm_keys: tuple[Secret, ...] = ()
    jump_keys: tuple[Secret, ...] = ()
    management_keys: Mapping[str, tuple[Secret, ...]] = field(default_factory=dict)  # by log


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that the operator said, ready for the wiring.

    `fingerprint` changes with settings, rules and patterns; secrets have no part in it.
    """

    settings: Settings
    policy: Policy
    signatures: SignatureSet
    management_signatures: SignatureSet
    secrets: Secrets
    files: tuple[Path, ...]
    warnings: tuple[str, ...]
    fingerprint: str


@dataclass(slots=True)
class _Findings:
    """What was found out beside the result."""

    mistakes: list[ConfigMistake] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def load_settings(path: Path) -> Loaded:
    """Read and validate the main file with its drop-ins; `ConfigError` holds every mistake."""
    findings = _Findings()
    main = read_document(path)
    findings.mistakes += main.mistakes
    root = main.root
    if root is None:
        if not findings.mistakes:
            hint = "the least is cloudstack.endpoints, api_key and secret_key"
            findings.mistakes.append(ConfigMistake(str(path), "", 1, "is empty", hint))
        raise ConfigError(tuple(findings.mistakes))
    _refuse_unless_mapping(root, findings)
    files = [path]
    for drop_in in _drop_ins(path, findings):
        document = read_document(drop_in)
        findings.mistakes += document.mistakes
        files.append(drop_in)
        if document.root is not None and _refuse_unless_mapping(document.root, findings):
            root = merge(root, document.root)
    settings = _validate(root, path, findings)
    if settings is None or findings.mistakes:
        raise ConfigError(tuple(findings.mistakes))
    base = path.absolute().parent
    return Loaded(anchored(settings, base), tuple(files), tuple(findings.warnings), root, base)


def _validate(root: Node, path: Path, findings: _Findings) -> Settings | None:
    """Validate as JSON; a document that is no mapping was told of already."""
    if not isinstance(root.value, Mapping):
        return None
    try:
        return Settings.model_validate_json(root.json())
    except ValidationError as error:
        findings.mistakes += mistakes_of(error, root, Words.of(Settings), str(path))
        return None


def _refuse_unless_mapping(root: Node, findings: _Findings) -> bool:
    if isinstance(root.value, Mapping):
        return True
    hint = "write `name: value`, one a line"
    place = root.place
    findings.mistakes.append(ConfigMistake(place.file, "", place.line, "must be a mapping", hint))
    return False


def _drop_ins(path: Path, findings: _Findings) -> Iterator[Path]:
    """The drop-ins of a main file, in name order."""
    directory = path.parent / DROP_IN_DIRECTORY
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208  names alone are wanted, in order
    except FileNotFoundError:
        return
    except OSError as error:
        message = f"cannot be listed: {os.strerror(error.errno or 0)}"
        findings.mistakes.append(ConfigMistake(str(directory), "", None, message))
        return
    chosen = [name for name in names if name.endswith(".yaml") and not name.startswith(".")]
    for name in names:
        if name.endswith((".yml", ".json")):
            findings.warnings.append(f"{directory / name} is not read: its name must end in .yaml")
    if len(chosen) > DROP_INS_MAX:
        message = f"holds more than {DROP_INS_MAX} files"
        findings.mistakes.append(ConfigMistake(str(directory), "", None, message))
        return
    for name in chosen:
        yield directory / name


class Reach(Enum):
    """How far loading looks beyond the configuration's own files."""

    SERVICE = "what the service needs must be there"
    CHECK = "what only the service can see may be missing"
    TEXT = "secrets, certificates and host keys are left aside"


def load_configuration(path: Path, environment: Mapping[str, str] = os.environ) -> Configuration:
    """Load everything, or raise `ConfigError` with every mistake there is."""
    configuration, findings = _load(path, environment, Reach.SERVICE)
    if configuration is None or findings.mistakes:
        raise ConfigError(tuple(findings.mistakes))
    return configuration


def check(
    path: Path, environment: Mapping[str, str] = os.environ, *, reach: Reach = Reach.CHECK
) -> tuple[tuple[ConfigMistake, ...], tuple[str, ...]]:
    """Every mistake and every warning."""
    try:
        _, findings = _load(path, environment, reach)
    except ConfigError as error:
        return error.mistakes, ()
    return tuple(findings.mistakes), tuple(findings.warnings)


def _load(
    path: Path, environment: Mapping[str, str], reach: Reach
) -> tuple[Configuration | None, _Findings]:
    """Load as far as it goes. None: something is missing, and the findings say what."""
    loaded = load_settings(path)
    settings = loaded.settings
    findings = _Findings(warnings=[*loaded.warnings, *warnings_about(settings)])
    findings.mistakes += mistakes_between(settings, loaded.locate)
    secrets = None
    if reach is not Reach.TEXT:
        _check_files(loaded, findings)
        secrets = _fetch_all(loaded, environment, findings, reach)
    book = load_rules(settings.rules, loaded.root, loaded.base)
    findings.mistakes += book.mistakes
    findings.warnings += book.warnings
    pattern_files = _pattern_files(loaded, findings)
    signatures = _load_patterns(pattern_files, findings)
    management_signatures = SignatureSet()
    if settings.management_logs and not findings.mistakes:
        source = LogSource.MANAGEMENT
        management_signatures = _load_patterns(pattern_files, findings, source) or SignatureSet()
    if secrets is None or signatures is None or findings.mistakes:
        return None, findings
    configuration = Configuration(
        settings=settings,
        policy=compile_policy(settings, book.rules, loaded.locate),
        signatures=signatures,
        management_signatures=management_signatures,
        secrets=secrets,
        files=(*loaded.files, *book.files, *pattern_files),
        warnings=tuple(findings.warnings),
        fingerprint=_fingerprint(settings, book, pattern_files),
    )
    return configuration, findings


def _check_files(loaded: Loaded, findings: _Findings) -> None:
    """Authorities must be there; known hosts may still come, and are strict without."""
    settings = loaded.settings
    wanted: list[tuple[DocumentPath, Path | None]] = [
        (("cloudstack", "ca_file"), settings.cloudstack.ca_file),
        (("database", "ca_file"), settings.database.ca_file if settings.database else None),
    ]
    for where, file in wanted:
        found = read_file(file, bytes_max=BYTES_MAX) if file is not None else None
        if isinstance(found, FileProblem):
            _add(loaded, findings, where, found.message, found.hint)
    if settings.ssh.enabled:
        known = read_file(settings.ssh.known_hosts, bytes_max=16 * BYTES_MAX)
        if isinstance(known, FileProblem):
            what = "VMs behind hypervisors cannot be looked into"
            findings.warnings.append(f"ssh.known_hosts: {known.message}; {what}")
    for number, log in enumerate(settings.management_logs):
        file = Path(log.path) if log.address is None else log.known_hosts
        try:
            is_there = file is None or file.is_file()
        except OSError:
            is_there = False
        if not is_there:
            option = "path" if log.address is None else "known_hosts"
            said = spoken((LOGS, number, option))
            findings.warnings.append(f"{said}: {file} cannot be read here, or not yet")


def _add(loaded: Loaded, findings: _Findings, where: DocumentPath, message: str, hint: str) -> None:
    place = loaded.locate(where)
    findings.mistakes.append(ConfigMistake(place.file, spoken(where), place.line, message, hint))


def _fetch_all(
    loaded: Loaded, environment: Mapping[str, str], findings: _Findings, reach: Reach
) -> Secrets | None:
    """Fetch every secret; None when one is missing."""
    settings = loaded.settings
    wanted = _wanted_secrets(settings)
    secrets: dict[DocumentPath, Secret] = {}
    for where, (ref, use) in wanted.items():
        match fetch(ref, use, loaded.base, environment):
            case Fetched(secret, warning):
                secrets[where] = secret
                if warning:
                    findings.warnings.append(f"{spoken(where)} {warning}")
            case NotFetched(message, hint, is_elsewhere):
                if is_elsewhere and reach is Reach.CHECK:
                    findings.warnings.append(f"{spoken(where)} was not checked: {message}")
                else:
                    _add(loaded, findings, where, message, hint)
    if len(secrets) < len(wanted):
        return None
    return Secrets(
        api_key=secrets["cloudstack", "api_key"],
        secret_key=secrets["cloudstack", "secret_key"],
        database_password=secrets.get(("database", "password")),
        vm_keys=tuple(secret for where, secret in secrets.items() if where[1] == "vm_keys"),
        jump_keys=tuple(secret for where, secret in secrets.items() if where[1] == "jump_keys"),
        management_keys={
            log.name: tuple(
                secret for where, secret in secrets.items() if where[:2] == (LOGS, number)
            )
            for number, log in enumerate(settings.management_logs)
        },
    )


def _wanted_secrets(settings: Settings) -> dict[DocumentPath, tuple[SecretRef, Use]]:
    cloudstack, database, ssh = settings.cloudstack, settings.database, settings.ssh
    wanted: dict[DocumentPath, tuple[SecretRef, Use]] = {
        ("cloudstack", "api_key"): (cloudstack.api_key, Use.WORD),
        ("cloudstack", "secret_key"): (cloudstack.secret_key, Use.WORD),
    }
    if database is not None:
        wanted["database", "password"] = (database.password, Use.PASSWORD)
    may_jump = ssh.enabled or any(log.address is not None for log in settings.management_logs)
    for number, ref in enumerate(ssh.vm_keys if ssh.enabled else ()):
        wanted["ssh", "vm_keys", number] = (ref, Use.PRIVATE_KEY)
    for number, ref in enumerate(ssh.jump_keys if may_jump else ()):
        wanted["ssh", "jump_keys", number] = (ref, Use.PRIVATE_KEY)
    for log_number, log in enumerate(settings.management_logs):
        for number, ref in enumerate(log.keys):
            wanted[LOGS, log_number, "keys", number] = (ref, Use.PRIVATE_KEY)
    return wanted


def _pattern_files(loaded: Loaded, findings: _Findings) -> tuple[Path, ...]:
    files: dict[Path, None] = {}
    for number, pattern in enumerate(loaded.settings.logs.pattern_files):
        match expand(pattern, loaded.base):
            case FileProblem(message, hint):
                _add(loaded, findings, ("logs", "pattern_files", number), message, hint)
            case found:
                files.update(dict.fromkeys(found))
    return tuple(files)


def _load_patterns(
    files: tuple[Path, ...], findings: _Findings, source: LogSource = LogSource.CLOUD
) -> SignatureSet | None:
    try:
        return load_patterns(files, with_builtin=True, source=source)
    except ConfigError as error:
        findings.mistakes += error.mistakes
        return None


def _fingerprint(settings: Settings, book: RuleBook, pattern_files: tuple[Path, ...]) -> str:
    """Settings with secrets hidden, rules in force, patterns byte by byte."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for rule in book.said:
        digest.update(rule.model_dump_json().encode())
    for file in (*pack_files("patterns"), *pattern_files):
        found = read_file(file, bytes_max=16 * BYTES_MAX)
        digest.update(found.content if isinstance(found, FileBytes) else b"")
    return digest.hexdigest()[:16]
