"""Reading regular expressions into a tree, without what their engine in `patterns` cannot do."""

import re
from collections.abc import Callable
from dataclasses import dataclass

MAX_DEPTH = 50
COUNT = re.compile(r"\{(\d{0,4})(,?)(\d{0,4})\}", re.ASCII)
CONTROL = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
HEX_DIGITS = {"x": 2, "u": 4}

Test = Callable[[str], bool]


class PatternError(ValueError):
    """The pattern cannot be read, or asks for more than this engine gives."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character that passes the test."""

    test: Test


@dataclass(frozen=True, slots=True)
class Assertion:
    """A place between two characters: `^`, `$`, `b` or `B`."""

    kind: str


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple["Part", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple["Part", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`most` is None where there is no limit."""

    part: "Part"
    least: int
    most: int | None


Part = Chars | Assertion | Sequence | Choice | Repeat


def is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


CLASSES: dict[str, Test] = {"d": str.isdecimal, "w": is_word, "s": str.isspace}


def parse(pattern: str) -> Part:
    """The tree of a pattern. Raises `PatternError` with a sentence for the author."""
    ignores_case = pattern.startswith("(?i)")
    parser = _Parser(pattern, 4 if ignores_case else 0, ignores_case)
    tree = parser.choice(0)
    if parser.next:
        raise PatternError("a ')' closes nothing")
    return tree


class _Parser:
    def __init__(self, pattern: str, position: int, ignores_case: bool) -> None:
        self.pattern = pattern
        self.position = position
        self.ignores_case = ignores_case

    @property
    def next(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def take(self) -> str:
        character = self.next
        if not character:
            raise PatternError("the pattern ends too early")
        self.position += 1
        return character

    def skip(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.position)
        self.position += len(text) if found else 0
        return found

    def choice(self, depth: int) -> Part:
        if depth > MAX_DEPTH:
            raise PatternError("its groups are nested too deeply")
        options = [self.sequence(depth)]
        while self.skip("|"):
            options.append(self.sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self, depth: int) -> Part:
        parts = []
        while self.next and self.next not in "|)":
            parts.append(self.repeated(depth))
        return Sequence(tuple(parts))

    def repeated(self, depth: int) -> Part:
        atom = self.atom(depth)
        limits = self.limits()
        if limits is None:
            return atom
        self.skip("?")
        if self.next == "+" or self.limits() is not None:
            raise PatternError("one repetition follows another")
        least, most = limits
        if most is not None and most < least:
            raise PatternError(f"the repetition {{{least},{most}}} ends before it begins")
        return Repeat(atom, least, most)

    def limits(self) -> tuple[int, int | None] | None:
        """How often what stands before may be repeated, if that is what comes next."""
        for sign, limits in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.skip(sign):
                return limits
        count = COUNT.match(self.pattern, self.position)
        if count is None or not (count[1] or count[3]):
            return None
        self.position = count.end()
        least = int(count[1] or 0)
        if not count[2]:
            return least, least
        return least, int(count[3]) if count[3] else None

    def atom(self, depth: int) -> Part:
        character = self.take()
        match character:
            case "(":
                return self.group(depth)
            case "[":
                return self.character_class()
            case ".":
                return Chars(lambda read: read != "\n")
            case "^" | "$":
                return Assertion(character)
            case "\\":
                return self.escape()
            case "*" | "+" | "?":
                raise PatternError(f"there is nothing that '{character}' could repeat")
            case _:
                return Chars(self.folded(lambda read: read == character))

    def group(self, depth: int) -> Part:
        if self.skip("?") and not self.skip(":"):
            raise PatternError("'(?' is known only as (?:group) and, at the start, as (?i)")
        inner = self.choice(depth + 1)
        if not self.skip(")"):
            raise PatternError("a ')' is missing")
        return inner

    def escape(self) -> Part:
        letter = self.take()
        if letter in "bB":
            return Assertion(letter)
        if letter in "AZ":
            return Assertion("^" if letter == "A" else "$")
        known = _class(letter)
        if known is not None:
            return Chars(known)
        literal = self.literal_escape(letter)
        return Chars(self.folded(lambda read: read == literal))

    def literal_escape(self, letter: str) -> str:
        """The character that an escape stands for."""
        if letter in CONTROL:
            return CONTROL[letter]
        if letter in HEX_DIGITS:
            digits = "".join(self.take() for _ in range(HEX_DIGITS[letter]))
            if not re.fullmatch("[0-9a-fA-F]+", digits):
                raise PatternError(f"'\\{letter}{digits}' is no character")
            return chr(int(digits, 16))
        if letter.isdecimal():
            raise PatternError(f"'\\{letter}': references to groups are not known")
        if letter.isascii() and letter.isalpha():
            raise PatternError(f"'\\{letter}' is not known")
        return letter

    def character_class(self) -> Part:
        is_negated = self.skip("^")
        tests = [self.class_member()]
        while not self.skip("]"):
            tests.append(self.class_member())
        test = self.folded(lambda read: any(passes(read) for passes in tests))
        return Chars(lambda read: not test(read)) if is_negated else Chars(test)

    def class_member(self) -> Test:
        first = self.class_character()
        if not isinstance(first, str):
            return first
        if self.next != "-" or self.pattern[self.position + 1 : self.position + 2] in ("]", ""):
            return lambda read: read == first
        self.take()
        last = self.class_character()
        if not isinstance(last, str) or last < first:
            raise PatternError(f"the range from '{first}' ends before it begins")
        return lambda read: first <= read <= last

    def class_character(self) -> str | Test:
        character = self.take()
        if character != "\\":
            return character
        letter = self.take()
        return _class(letter) or self.literal_escape(letter)

    def folded(self, test: Test) -> Test:
        """The test, for either case of a letter if the pattern says so."""
        if not self.ignores_case:
            return test
        return lambda read: test(read) or test(read.lower()) or test(read.upper())


def _class(letter: str) -> Test | None:
    test = CLASSES.get(letter.lower())
    if test is None or letter.islower():
        return test
    return lambda read: not test(read)
