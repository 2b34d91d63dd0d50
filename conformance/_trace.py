"""Reads trace files (docs/trace-format.md) into scenarios."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NoReturn

from conformance._items import NotationError, Scope
from conformance._notation import (
    Pattern,
    parse_pattern,
    parse_text,
    split_cells,
    split_comment,
)
from conformance._scenario import (
    NEEDS,
    ROLES,
    VERSIONS,
    Act,
    AnyOrder,
    Call,
    Distinct,
    Either,
    EventIs,
    Expect,
    Forget,
    Joins,
    Refused,
    Repeat,
    Scenario,
    Send,
    State,
    Step,
    Subscribes,
    TraceError,
    Wait,
    walk,
)

TRACES = Path(__file__).parent / "traces"
MQTT_3_1_1, MQTT_5 = 4, 5
"""Protocol levels."""

_HEADER = (
    "== NAME, version: 5.0, proves v5: IDS, about: TEXT, role: ROLE, needs: NEED, "
    "settings: KEY=VALUE, cases |"
)
_STEPS = (
    "NAME > BYTES, NAME < BYTES, NAME = STATE, NAME ! ACTION, NAME joins, NAME subscribes, "
    "@ 1.5s, distinct $A $B, forget $A"
)
_BLOCKS = "any order, either, one of, or, repeat N as i, end"
_STATES = ("open", "closed", "nothing", "refused REASON")
_ACTIONS = ("connect", "cut", "reset", "half-close", "stop reading", "read")
_CALLS = (
    *("connect", "publish", "subscribe", "unsubscribe", "ping", "auth", "disconnect"),
    *("puback", "pubrec", "pubcomp"),
)

_STEP = re.compile(r"(?:(?P<link>[A-Za-z_][\w-]*)\s*)?(?P<sign>[><=!])\s*(?P<rest>.*)", re.DOTALL)
_WORDS = re.compile(r"(?P<link>[A-Za-z_][\w-]*)\s+(?P<verb>joins|subscribes)\b\s*(?P<rest>.*)")
_WITHIN = re.compile(r"(?P<rest>.*?)\s+within\s+(?P<seconds>[\d.]+)s$", re.DOTALL)
_TITLE = re.compile(r"==\s+(?P<name>[\w./+#$-]+)$")
_WAIT = re.compile(r"@\s*(?P<seconds>\d+(?:\.\d+)?)s$")
_REPEAT = re.compile(r"repeat\s+(?P<count>\d+)(?:\s+as\s+(?P<variable>[A-Za-z_]\w*))?$")
_NAMES = re.compile(r"(?P<verb>distinct|forget)(?P<names>(?:\s+\$[A-Za-z_]\w*)+)$")
_IDS = re.compile(r"(MQTT|P5)-\d+\.\d+\.\d+-\d+$")
_REFUSED = re.compile(r"refused\s+(?P<reasons>[0-9a-fA-F]{2}(\s+or\s+[0-9a-fA-F]{2})*)$")
_JOINS = re.compile(
    r"(?P<version>3\.1\.1)?\s*(?P<mode>clean|keep|resume)?\s*"
    r"(?:as\s+(?P<id>[cs]'(?:[^'\\]|\\.)*'))?\s*"
    r"(?:with\s+(?P<properties>\[.*\]))?$"
)
_SUBSCRIBES = re.compile(
    r"(?P<filter>[st]'(?:[^'\\]|\\.)*')\s+at\s+(?P<qos>[012])\s*(?:with\s+(?P<properties>\[.*\]))?$"
)
_ARGUMENT = re.compile(
    r"(?P<key>[a-z_]+)="
    r"(?P<value>'(?:[^'\\]|\\.)*'(?:\*\d+)?|\[(?:'(?:[^'\\]|\\.)*'|[^'\]])*\]|[^\s\[]\S*)\s*"
)


def load_traces(root: Path = TRACES) -> list[Scenario]:
    """All scenarios under `root`, or of the one file `root`. Raises TraceError."""
    return list(_shipped()) if root == TRACES else _load(root)


@cache
def _shipped() -> tuple[Scenario, ...]:
    """Those of this package, which do not change while a program runs."""
    return tuple(_load(TRACES))


def _load(root: Path) -> list[Scenario]:
    files = sorted(root.rglob("*.trace")) if root.is_dir() else [root]
    scenarios = [scenario for file in files for scenario in parse_trace(file)]
    seen: dict[str, Scenario] = {}
    for scenario in scenarios:
        other = seen.setdefault(scenario.full_name, scenario)
        if other is not scenario:
            where = f"{other.path.name}:{other.line}"
            raise TraceError(
                scenario.path, scenario.line, f"{scenario.name} is also the name of {where}"
            )
    return scenarios


def parse_trace(path: Path, text: str | None = None) -> list[Scenario]:
    """The scenarios of one file; `text` is read instead of the file if given. Raises TraceError."""
    lines = _logical_lines(path, path.read_text("utf-8") if text is None else text)
    version = "v3"
    if lines and lines[0][1].startswith("version:"):  # of every scenario in the file
        version = _version(path, *lines.pop(0))
    starts = [index for index, (_, line) in enumerate(lines) if line.startswith("==")]
    if not starts or starts[0] != 0:
        where = lines[0][0] if lines else 1
        raise TraceError(path, where, "a trace file begins with a scenario: == NAME")
    scenarios: list[Scenario] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        scenarios.extend(_ScenarioParser(path, lines[start:end], version).scenarios())
    return scenarios


def _version(path: Path, line: int, text: str) -> str:
    value = text.partition(":")[2].strip()
    if value not in VERSIONS:
        raise TraceError(path, line, f"unknown {value!r}; allowed: {', '.join(VERSIONS)}")
    return VERSIONS[value]


def _logical_lines(path: Path, text: str) -> list[tuple[int, str]]:
    """(number, content) of every line with content; a backslash at its end joins the next to it."""
    lines: list[tuple[int, str]] = []
    pending = ""
    for number, raw in enumerate(text.splitlines(), 1):
        try:
            line = split_comment(raw).strip() if not raw.strip().startswith("about:") else raw
        except NotationError as error:
            raise TraceError(path, number, str(error)) from None
        if line.endswith("\\"):
            pending += line[:-1].strip() + " "
            continue
        line = (pending + line).strip()
        pending = ""
        if line:
            lines.append((number, line))
    return lines


class _ScenarioParser:
    """Parses the lines of one scenario: header lines first, then steps."""

    def __init__(self, path: Path, lines: list[tuple[int, str]], version: str) -> None:
        self.path = path
        self.version = version
        self.lines = lines
        self.at = 0
        self.line = lines[0][0]
        self.about = ""
        self.proves: list[str] = []
        self.role = "server"
        self.needs: list[str] = []
        self.settings: dict[str, str] = {}
        self.columns: list[str] = []
        self.rows: list[tuple[int, list[str]]] = []

    def scenarios(self) -> list[Scenario]:
        """The scenario, or one for each row of its `cases`."""
        first, title = self.lines[0]
        name = self._header(title)
        body = self.lines[self.at :]
        if not body:
            self._fail(f"{name} has no steps; allowed: {_STEPS}, {_BLOCKS}")
        if not self.rows:
            return [self._build(name, first, body)]
        found = []
        for number, cells in self.rows:
            case = dict(zip(self.columns, cells, strict=True))
            label = re.sub(r"[^\w./+#$-]+", "-", cells[0])
            filled = [(line, _fill(text, case)) for line, text in body]
            self.line, common = number, list(self.proves)
            for version in ("v3", "v5"):
                self._proves(version, case.get(f"proves {version}", ""))
            found.append(self._build(f"{name}/{label}", number, filled))
            self.proves = common
        return found

    def _build(self, name: str, line: int, body: list[tuple[int, str]]) -> Scenario:
        self.lines, self.at = body, 0
        steps = self._block(())
        self._check_variables(steps)
        return Scenario(
            path=self.path,
            line=line,
            name=name,
            about=self.about,
            proves=tuple(self.proves),
            version=self.version,
            role=self.role,
            needs=tuple(self.needs),
            settings=self.settings,
            steps=steps,
        )

    def _header(self, title: str) -> str:
        found = _TITLE.match(title)
        if found is None:
            self._fail("a scenario begins with == and a name of letters, digits and - . /")
        self.at = 1
        while self.at < len(self.lines):
            self.line, text = self.lines[self.at]
            if not self._header_line(text):
                break
            self.at += 1
        return found["name"]

    def _header_line(self, text: str) -> bool:
        key, colon, value = text.partition(":")
        value = value.strip()
        if text.startswith(("cases |", "cases|")):
            self.columns = split_cells(text)[1:]
        elif text.startswith("|"):
            self._row(text)
        elif not colon:
            return False
        elif key == "about":
            self.about = f"{self.about} {value}".strip()
        elif key in ("proves v3", "proves v5"):
            self._proves(key[-2:], value)
        elif key == "version":
            self.version = _version(self.path, self.line, text)
        elif key == "role":
            self.role = self._one_of(value, ROLES)
        elif key == "needs":
            self.needs += [self._one_of(need.strip(), NEEDS) for need in value.split(",")]
        elif key == "settings":
            self._settings(value)
        elif re.fullmatch(r"[a-z]+( \w+)?", key):
            self._fail(f"unknown header {key!r}; allowed: {_HEADER}")
        else:
            return False
        return True

    def _row(self, text: str) -> None:
        cells = split_cells(text)[1:]
        if len(cells) != len(self.columns):
            self._fail(f"{len(cells)} cells, but `cases` has {len(self.columns)} columns")
        self.rows.append((self.line, cells))

    def _proves(self, version: str, value: str) -> None:
        for word in value.replace(",", " ").split():
            if not _IDS.match(word):
                self._fail(f"{word!r} is no statement id; allowed: such as MQTT-4.3.2-2")
            self.proves.append(f"{version} {word}")

    def _settings(self, value: str) -> None:
        for word in value.split():
            key, equals, setting = word.partition("=")
            if not equals:
                self._fail(f"{word!r} is no setting; allowed: KEY=VALUE, without blanks")
            self.settings[key] = setting

    def _block(self, stops: tuple[str, ...]) -> tuple[Step, ...]:
        """Steps up to one of the words in `stops`, which is left to be read."""
        steps: list[Step] = []
        while self.at < len(self.lines):
            self.line, text = self.lines[self.at]
            if text in stops:
                return tuple(steps)
            self.at += 1
            try:
                steps.append(self._step(text))
            except NotationError as error:
                self._fail(str(error))
        if stops:
            self._fail(f"a block is open at the end of the scenario; allowed: {' or '.join(stops)}")
        return tuple(steps)

    def _step(self, text: str) -> Step:
        if wait := _WAIT.match(text):
            return Wait(self.line, float(wait["seconds"]))
        if text == "any order":
            return self._any_order()
        if text in ("either", "one of"):
            return self._either(is_open=text == "one of")
        if repeat := _REPEAT.match(text):
            return self._repeat(int(repeat["count"]), repeat["variable"] or "")
        if names := _NAMES.match(text):
            variables = tuple(word[1:] for word in names["names"].split())
            kind = Distinct if names["verb"] == "distinct" else Forget
            return kind(self.line, variables)
        if words := _WORDS.match(text):
            link, rest = words["link"], words["rest"]
            return (
                self._joins(link, rest)
                if words["verb"] == "joins"
                else self._subscribes(link, rest)
            )
        if found := _STEP.match(text):
            return self._sign(found["link"] or "", found["sign"], found["rest"].strip())
        self._fail(f"cannot read {text!r}; allowed: {_STEPS}, {_BLOCKS}")

    def _sign(self, link: str, sign: str, rest: str) -> Step:
        if sign == ">":
            pattern = parse_pattern(rest)
            if not pattern.is_sendable():
                self._fail("? and .. stand for bytes that come; a line that sends has fixed bytes")
            return Send(self.line, link, pattern)
        if sign == "!":
            return self._act(link, rest)
        within_s = 0.0
        if found := _WITHIN.match(rest):
            rest, within_s = found["rest"], float(found["seconds"])
        if sign == "<":
            return Expect(self.line, link, parse_pattern(rest), within_s)
        if rest.startswith("event "):
            _, name, *arguments = rest.split(maxsplit=2)
            return EventIs(self.line, name, self._arguments(arguments[0] if arguments else ""))
        if found := _REFUSED.match(rest):
            reasons = tuple(int(reason, 16) for reason in found["reasons"].split("or"))
            return Refused(self.line, link, reasons, within_s)
        return State(self.line, link, self._one_of(rest, _STATES), within_s)

    def _act(self, link: str, rest: str) -> Step:
        verb, _, arguments = rest.partition(" ")
        if self.role == "client" and verb in _CALLS:
            arguments, arrow, outcome = arguments.partition("=>")
            if arrow and outcome.strip() != "refused":
                self._fail(f"unknown outcome {outcome.strip()!r}; allowed: => refused")
            given = self._arguments(arguments.strip())
            if verb == "connect" and self.version == "v5":
                given = (("level", str(MQTT_5).encode()), *given)
            return Call(self.line, verb, given, bool(arrow))
        allowed = _ACTIONS if self.role == "server" else (*_CALLS, "cut")
        return Act(self.line, link, self._one_of(rest, allowed))

    def _arguments(self, text: str) -> tuple[tuple[str, bytes], ...]:
        arguments, at = [], 0
        while at < len(text):
            found = _ARGUMENT.match(text, at)
            if found is None:
                self._fail(
                    f"cannot read {text[at:]!r}; allowed: key='text', key=number, key=[properties]"
                )
            value = found["value"]
            if value.startswith("["):
                data = parse_pattern(value).encode(Scope())
            else:
                data = parse_text(value) if value.startswith("'") else value.encode()
            arguments.append((found["key"], data))
            at = found.end()
        return tuple(arguments)

    def _joins(self, link: str, rest: str) -> Joins:
        found = _JOINS.match(rest)
        if found is None:
            self._fail(
                f"cannot read {rest!r}; allowed: joins [3.1.1] [clean|keep|resume] [as c'id'] "
                "[with [properties]]"
            )
        level = MQTT_5 if self.version == "v5" and not found["version"] else MQTT_3_1_1
        return Joins(
            self.line,
            link,
            found["mode"] or "clean",
            parse_pattern(found["id"] or f"c'{link}'"),
            level,
            self._with(found["properties"], level),
        )

    def _subscribes(self, link: str, rest: str) -> Subscribes:
        found = _SUBSCRIBES.match(rest)
        if found is None:
            self._fail(
                f"cannot read {rest!r}; allowed: subscribes t'filter' at 0, 1 or 2 "
                "[with [properties]]"
            )
        return Subscribes(
            self.line,
            link,
            parse_pattern(found["filter"]),
            int(found["qos"]),
            self._with(found["properties"], MQTT_5 if self.version == "v5" else MQTT_3_1_1),
        )

    def _with(self, properties: str | None, level: int) -> Pattern | None:
        if properties is None:
            return None
        if level != MQTT_5:
            self._fail("MQTT 3.1.1 has no properties; allowed: version: 5.0 at the top of the file")
        pattern = parse_pattern(properties)
        if not pattern.is_sendable():
            self._fail(f"{properties} is sent, so it has fixed values")
        return pattern

    def _any_order(self) -> AnyOrder:
        line = self.line
        steps = []
        for step in self._block(("end",)):
            if not isinstance(step, Expect):
                self.line = step.line
                self._fail("only packets that come can be in `any order`; allowed: NAME < BYTES")
            steps += [
                Expect(step.line, step.link, one, step.within_s) for one in step.pattern.split()
            ]
        self.at += 1
        return AnyOrder(line, tuple(steps))

    def _either(self, is_open: bool) -> Either:
        line = self.line
        branches = [self._block(("or", "end"))]
        while self.lines[self.at][1] == "or":
            self.at += 1
            branches.append(self._block(("or", "end")))
        self.at += 1
        for branch in branches:
            if not branch or not isinstance(branch[0], Expect | State | Refused | AnyOrder):
                self.line = line
                self._fail(
                    "each branch begins with what tells it; allowed: NAME <, NAME =, any order"
                )
        return Either(line, tuple(branches), is_open)

    def _repeat(self, count: int, variable: str) -> Repeat:
        line = self.line
        steps = self._block(("end",))
        self.at += 1
        return Repeat(line, count, variable, steps)

    def _check_variables(self, steps: Iterable[Step]) -> None:
        """Each variable that is sent is bound somewhere before."""
        bound = {step.variable for step in walk(tuple(steps)) if isinstance(step, Repeat)}
        for step in walk(tuple(steps)):
            if isinstance(step, Expect):
                bound |= step.pattern.variables()
            elif isinstance(step, Send):
                for name in sorted(step.pattern.variables() - bound):
                    self.line = step.line
                    self._fail(f"${name} is sent before anything was bound to it")
            elif isinstance(step, Distinct | Forget):
                for name in sorted(set(step.names) - bound):
                    self.line = step.line
                    self._fail(f"nothing was bound to ${name} before")

    def _one_of(self, word: str, allowed: Iterable[str]) -> str:
        if word not in allowed:
            self._fail(f"unknown {word!r}; allowed: {', '.join(allowed)}")
        return word

    def _fail(self, message: str) -> NoReturn:
        raise TraceError(self.path, self.line, message)


def _fill(text: str, case: dict[str, str]) -> str:
    """The line of a scenario with cases: {column} becomes the cell of this row."""
    replace: Callable[[re.Match[str]], str] = lambda found: case.get(found[1], found[0])  # noqa: E731
    return re.sub(r"\{(\w+)\}", replace, text)
