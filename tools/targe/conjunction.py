"""Conjunctions of conditions on fields of a frame, and formulas of them in disjunctive form.

A field is part, offset and width in bytes. Part 0 counts from the frame's first byte; another part is the
offset of the byte whose low four bits, times four, lead to where it begins: the IPv4 header.
"""

from dataclasses import dataclass, field

MOST = 2000  # alternatives in between: no expression that means something has so many


class Inexpressible(Exception):
    """What no condition can say."""


@dataclass(frozen=True)
class Match:
    """The field, masked, is value."""
    part: int
    offset: int
    width: int
    mask: int
    value: int
    name: str

    def negated(self):
        """Alternatives that together are the contrary."""
        if self.mask & (self.mask - 1) == 0:
            return [Match(self.part, self.offset, self.width, self.mask, self.mask ^ self.value, self.name)]
        if self.width == 2 and self.mask == 0xffff and self.offset % 2 == 0:
            return Range(self.part, self.offset, self.value, self.value, self.name).negated()
        return [Unlike(self)]


@dataclass(frozen=True)
class Range:
    """The two-byte field is from low to high."""
    part: int
    offset: int
    low: int
    high: int
    name: str

    def negated(self):
        """Alternatives that together are the contrary."""
        below = [Range(self.part, self.offset, 0, self.low - 1, self.name)] if self.low else []
        above = [Range(self.part, self.offset, self.high + 1, 0xffff, self.name)] if self.high < 0xffff else []
        return below + above


@dataclass(frozen=True)
class Unlike:
    """Not the match. It vanishes if the rest settles it, and else cannot be said."""
    match: Match

    def negated(self):
        """The match."""
        return [self.match]


@dataclass
class Conjunction:
    """Conditions that all hold. None contradicts another."""
    bits: dict = field(default_factory=dict)    # (part, byte): (mask, value)
    ranges: dict = field(default_factory=dict)  # (part, offset): (low, high)
    unlike: tuple = ()
    fields: tuple = ()                          # matches, as they were said
    names: dict = field(default_factory=dict)   # of ranges

    def copy(self):
        """One of its own."""
        return Conjunction(dict(self.bits), dict(self.ranges), self.unlike, self.fields, dict(self.names))

    def with_(self, literal):
        """This and one more, or None if that cannot be."""
        result = self.copy()
        if isinstance(literal, Unlike):
            result.unlike += (literal.match,)
        elif isinstance(literal, Range):
            low, high = result.ranges.get((literal.part, literal.offset), (0, 0xffff))
            result.ranges[literal.part, literal.offset] = max(low, literal.low), min(high, literal.high)
            result.names[literal.part, literal.offset] = literal.name
        else:
            for at, mask, value in _bytes(literal):
                has_mask, has_value = result.bits.get((literal.part, at), (0, 0))
                if (has_value ^ value) & has_mask & mask:
                    return None
                if mask:
                    result.bits[literal.part, at] = has_mask | mask, has_value | value
            if literal.mask and literal not in result.fields:
                result.fields += (literal,)
        return result._settled()

    def _settled(self):
        """Without ranges that decide nothing or are decided; None if one cannot be."""
        for key, (low, high) in list(self.ranges.items()):
            if low > high:
                return None
            fixed = self.fixed(*key)
            if fixed is not None and not low <= fixed <= high:
                return None
            if fixed is not None or (low, high) == (0, 0xffff):
                del self.ranges[key]
            elif low == high:
                del self.ranges[key]
                return self.with_(Match(*key, 2, 0xffff, low, self.names[key]))
        left = tuple(match for match in self.unlike if not self._excludes(match))
        if any(self._includes(match) for match in left):
            return None
        self.unlike = left
        return self

    def fixed(self, part, offset):
        """The value of a two-byte field, if there is only one."""
        pair = [self.bits.get((part, offset + i), (0, 0)) for i in range(2)]
        return pair[0][1] << 8 | pair[1][1] if all(mask == 0xff for mask, _ in pair) else None

    def _excludes(self, match):
        for at, mask, value in _bytes(match):
            has_mask, has_value = self.bits.get((match.part, at), (0, 0))
            if (has_value ^ value) & has_mask & mask:
                return True
        return False

    def _includes(self, match):
        return not self._excludes(match) and all(
            not mask & ~self.bits.get((match.part, at), (0, 0))[0] for at, mask, _ in _bytes(match))

    def implies(self, other):
        """Every frame that satisfies this also satisfies the other."""
        for key, (mask, value) in other.bits.items():
            has_mask, has_value = self.bits.get(key, (0, 0))
            if mask & ~has_mask or (has_value ^ value) & mask:
                return False
        for key, (low, high) in other.ranges.items():
            fixed = self.fixed(*key)
            least, most = self.ranges.get(key, (0, 0xffff)) if fixed is None else (fixed, fixed)
            if least < low or most > high:
                return False
        return all(match in self.unlike or self._excludes(match) for match in other.unlike)

    def joined(self, other):
        """What both are together, if they differ in the range of one field, and the ranges meet."""
        keys = {(match.part, match.offset): match.name.rstrip(" 0123456789")
                for one in (self, other) for match in one.fields
                if match.width == 2 and match.mask == 0xffff and match.offset % 2 == 0}
        keys |= self.names | other.names
        for key, name in keys.items():
            spans = [one.ranges.get(key) or (one.fixed(*key),) * 2 for one in (self, other)]
            if None in spans[0] + spans[1]:
                continue
            (low, high), (low2, high2) = spans
            rest, rest2 = self._without(key), other._without(key)
            if rest.implies(rest2) and rest2.implies(rest) and low <= high2 + 1 and low2 <= high + 1:
                return rest.with_(Range(*key, min(low, low2), max(high, high2), name))
        return None

    def _without(self, key):
        result = self.copy()
        part, offset = key
        result.ranges.pop(key, None)
        for at in (offset, offset + 1):
            result.bits.pop((part, at), None)
        result.fields = tuple(one for one in self.fields if one.part != part or one.width != 2
                              or one.offset != offset)
        return result


def _bytes(match):
    for i in range(match.width):
        down = 8 * (match.width - 1 - i)
        yield match.offset + i, match.mask >> down & 0xff, match.value >> down & 0xff


class All:
    """Formulas that all hold."""

    def __init__(self, *parts):
        self.parts = parts


class Any:
    """Formulas of which one holds."""

    def __init__(self, *parts):
        self.parts = parts


class Not:
    """A formula that does not hold."""

    def __init__(self, part):
        self.part = part


def alternatives(formula):
    """The formula as a list of conjunctions of which none implies another."""
    found = _reduced(_extended([Conjunction()], formula, True))
    merged = True
    while merged:
        merged = False
        for i, one in enumerate(found):
            for k in range(i + 1, len(found)):
                both = one.joined(found[k])
                if both:
                    found = [other for n, other in enumerate(found) if n not in (i, k)
                             and not other.implies(both)] + [both]
                    merged = True
                    break
            if merged:
                break
    return found


def _reduced(found):
    """The same without those that imply another."""
    if len(found) > MOST:
        raise Inexpressible("too many alternatives")
    kept = []
    for one in found:
        if not any(one.implies(other) for other in kept):
            kept = [other for other in kept if not other.implies(one)] + [one]
    return kept


def _extended(found, formula, holds):
    """The conjunctions with a formula, or its contrary, added to each. What is short is added first, as
    it contradicts most of the rest."""
    if isinstance(formula, Not):
        return _extended(found, formula.part, not holds)
    if isinstance(formula, (All, Any)):
        if isinstance(formula, Any) == holds:
            return [one for part in formula.parts for one in _extended(found, part, holds)]
        for part in sorted(formula.parts, key=_size):
            found = _reduced(_extended(found, part, holds))
        return found
    literals = [formula] if holds else formula.negated()
    return [longer for one in found for literal in literals if (longer := one.with_(literal))]


def _size(formula):
    if isinstance(formula, Not):
        return _size(formula.part)
    return sum(_size(part) for part in formula.parts) if isinstance(formula, (All, Any)) else 1
