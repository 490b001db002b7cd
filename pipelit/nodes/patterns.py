"""Regular expressions that cannot be made to take long.

Python's own engine backtracks: a pattern like `(a+)+$` needs hours for a text that somebody outside may choose. This
one follows all alternatives at once (Thompson 1968), so that its time grows with the length of the text times the size
of the pattern. The price is what needs a memory of the past: references to groups, and looking ahead or behind.

Known are literals, `.`, classes, the escapes d, w, s, b and their opposites, groups, `|`, `* + ? {m,n}` (lazy ones too:
that changes nothing here), `^` and `$` (start and end of the text), and `(?i)` at the start to ignore case.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from pipelit.nodes.pattern_syntax import Assertion, Chars, Choice, Part, PatternError, Repeat, Sequence, is_word, parse

MAX_LENGTH = 500
MAX_SIZE = 1_000
MAX_TEXT = 10_000
"""Only so much of a text is searched."""

MAX_REMEMBERED = 20_000
"""Threads that a pattern keeps in its two memories; then it forgets them and starts again."""

Key = TypeVar("Key")
Threads = frozenset[int]
Place = tuple[bool, bool, bool]
"""What assertions see: at the start, at the end, between a word and what is none."""


@dataclass(frozen=True, slots=True)
class Split:
    """Goes on at both places."""

    first: int
    second: int


@dataclass
class Pattern:
    """A compiled pattern; a thread that comes to the end of the program has matched."""

    program: list[Chars | Assertion | Split]
    _reached: dict[tuple[Threads, Place], Threads] = field(default_factory=dict)
    _stepped: dict[tuple[Threads, str], Threads] = field(default_factory=dict)
    remembered: int = 0

    def is_in(self, text: str) -> bool:
        """Whether the pattern matches anywhere in the text."""
        text = text[:MAX_TEXT]
        threads: Threads = frozenset((0,))
        for index in range(len(text) + 1):
            reached = self._reach(threads, _place(text, index))
            if len(self.program) in reached:
                return True
            if index < len(text):
                threads = self._step(reached, text[index])
        return False

    def _reach(self, threads: Threads, place: Place) -> Threads:
        """Every instruction that the threads come to without reading a character."""
        known = self._reached.get((threads, place))
        if known is not None:
            return known
        reached: set[int] = set()
        pending = list(threads)
        while pending:
            at = pending.pop()
            if at in reached:
                continue
            reached.add(at)
            match self.program[at] if at < len(self.program) else None:
                case Split(first, second):
                    pending += (first, second)
                case Assertion(kind) if _holds(kind, place):
                    pending.append(at + 1)
        return self._remember(self._reached, (threads, place), frozenset(reached))

    def _step(self, reached: Threads, character: str) -> Threads:
        """Where the threads are after reading a character; a new one starts behind every character."""
        known = self._stepped.get((reached, character))
        if known is not None:
            return known
        following = {0}
        for at in reached:
            instruction = self.program[at]
            if isinstance(instruction, Chars) and instruction.test(character):
                following.add(at + 1)
        return self._remember(self._stepped, (reached, character), frozenset(following))

    def _remember(self, known: dict[Key, Threads], key: Key, threads: Threads) -> Threads:
        if self.remembered + len(threads) > MAX_REMEMBERED:
            self._reached.clear()
            self._stepped.clear()
            self.remembered = 0
        self.remembered += len(threads)
        known[key] = threads
        return threads


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Pattern:
    """The pattern, ready to search. Raises `PatternError` with a sentence for the author."""
    if len(pattern) > MAX_LENGTH:
        raise PatternError(f"the pattern has {len(pattern)} characters; {MAX_LENGTH} are the limit")
    emitter = _Emitter()
    emitter.emit(parse(pattern))
    return Pattern(emitter.program)


def _place(text: str, index: int) -> Place:
    before = index > 0 and is_word(text[index - 1])
    after = index < len(text) and is_word(text[index])
    return index == 0, index == len(text), before != after


def _holds(kind: str, place: Place) -> bool:
    is_start, is_end, is_boundary = place
    return {"^": is_start, "$": is_end, "b": is_boundary, "B": not is_boundary}[kind]


class _Emitter:
    """Writes the program of a pattern, every counted repetition written out."""

    def __init__(self) -> None:
        self.program: list[Chars | Assertion | Split] = []
        self.visits = 0

    def emit(self, part: Part) -> None:
        # Repetitions of nothing write no instruction, and would otherwise be repeated for ever.
        self.visits += 1
        if len(self.program) > MAX_SIZE or self.visits > 10 * MAX_SIZE:
            raise PatternError("the pattern is too large once its repetitions are written out")
        match part:
            case Chars() | Assertion():
                self.program.append(part)
            case Sequence(parts):
                for each in parts:
                    self.emit(each)
            case Choice(options):
                self._emit_choice(options)
            case Repeat(repeated, least, most):
                for _ in range(least):
                    self.emit(repeated)
                self._emit_more(repeated, None if most is None else most - least)

    def _emit_choice(self, options: tuple[Part, ...]) -> None:
        ends = []
        for option in options[:-1]:
            split = self._reserve()
            self.emit(option)
            ends.append(self._reserve())
            self.program[split] = Split(split + 1, len(self.program))
        self.emit(options[-1])
        for end in ends:
            self.program[end] = Split(len(self.program), len(self.program))

    def _emit_more(self, repeated: Part, count: int | None) -> None:
        """What may follow the repetitions that must be there: so many more, or any number."""
        if count is None:
            split = self._reserve()
            self.emit(repeated)
            self.program.append(Split(split, split))
            self.program[split] = Split(split + 1, len(self.program))
            return
        splits = []
        for _ in range(count):
            splits.append(self._reserve())
            self.emit(repeated)
        for split in splits:
            self.program[split] = Split(split + 1, len(self.program))

    def _reserve(self) -> int:
        """The place of a split whose targets are not known yet."""
        self.program.append(Split(0, 0))
        return len(self.program) - 1
