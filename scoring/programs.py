"""All rules of a release as one program, run by a small machine over all payments of a batch at once.

Each checked expression becomes steps: load a column, compare, combine. Steps that say the same are one step, whichever
rules they come from, so thirty rules load `amount` once. The machine (Numba) takes the steps one after the other for
64 payments at a time; one payment goes the same way as five thousand, so a rule cannot judge them differently.
Whatever a step works on is a float64: numbers with NaN for "not known", codes, and 0 or 1 for no and yes.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import numpy as np
from numba import njit

from transactions.facts import FACTS

FIELDS: Mapping[str, Any] = FACTS.fields or {}
BLOCK = 64  # payments that take a step together


class Op(IntEnum):
    """What a step does; `left` and `right` are steps before it unless said otherwise."""

    CONSTANT = 0  # `number`
    FEATURE = 1  # column `left` of the matrix × `number`
    FLAG_FEATURE = 2  # whether column `left` of the matrix is 1
    FACT = 3  # the fact at byte `left`, `right` bytes wide × `number`; not known where it is `special`
    FLOAT_FACT = 4  # the float32 at byte `left` × `number`
    BIT = 5  # whether the fact at byte `left`, `right` bytes wide, has a bit of `special`
    GIVEN = 6  # column `left` of those bound by name
    ADD = 7
    SUBTRACT = 8
    MULTIPLY = 9
    DIVIDE = 10
    NEGATIVE = 11
    ABSOLUTE = 12
    LEAST = 13
    MOST = 14
    UNKNOWN = 15
    BELOW = 16
    AT_MOST = 17
    EQUAL = 18
    UNEQUAL = 19
    BOTH = 20
    EITHER = 21
    NOT = 22
    AMONG = 23  # whether `left` is one of the `special` values from `right` on


NEVER = -(2**63)  # no fact has this value
_OPERATORS: dict[type[ast.AST], Op] = {
    ast.Add: Op.ADD,
    ast.Sub: Op.SUBTRACT,
    ast.Mult: Op.MULTIPLY,
    ast.BitAnd: Op.BOTH,
    ast.BitOr: Op.EITHER,
    ast.Lt: Op.BELOW,
    ast.LtE: Op.AT_MOST,
    ast.Eq: Op.EQUAL,
    ast.NotEq: Op.UNEQUAL,
    ast.USub: Op.NEGATIVE,
    ast.Invert: Op.NOT,
}
_SWAPPED: dict[type[ast.AST], Op] = {ast.Gt: Op.BELOW, ast.GtE: Op.AT_MOST}
_CALLS = {"_divide": Op.DIVIDE, "_abs": Op.ABSOLUTE, "_min": Op.LEAST, "_max": Op.MOST, "_isnan": Op.UNKNOWN}


@dataclass(frozen=True)
class Stored:
    """A column of FACTS as rules see it: a number × `scale`, NaN where it is `absent`; or whether it has a `bit`."""

    name: str
    kind: str  # number, bit, raw
    scale: float = 1.0
    absent: float | None = None
    bit: int = 0

    def __call__(self, facts: np.ndarray) -> np.ndarray:
        """The column of `facts` (n,)."""
        stored = facts[self.name]
        if self.kind == "raw":
            return stored
        if self.kind == "bit":
            return (stored & self.bit) != 0
        values = stored.astype("f8") * self.scale
        if self.absent is not None and not np.isnan(self.absent):
            values[stored == self.absent] = np.nan
        return values


class Named(Protocol):
    """What is needed of a `scoring.rules.Word`."""

    @property
    def kind(self) -> str: ...

    @property
    def column(self) -> object: ...

    @property
    def scale(self) -> float: ...


class Steps(NamedTuple):
    """A program as the machine reads it; step i writes register i. Constants come first."""

    op: np.ndarray  # i4, (steps,)
    left: np.ndarray  # i4, (steps,)
    right: np.ndarray  # i4, (steps,)
    number: np.ndarray  # f8, (steps,)
    special: np.ndarray  # i8, (steps,)
    values: np.ndarray  # f8: what AMONG looks through
    results: np.ndarray  # i4, (rules,): the register of each rule; -1 for one that has none


@dataclass(frozen=True)
class Program:
    """A ruleset's steps, the names of the columns it is given, and which rules it could not take in."""

    steps: Steps
    given: tuple[str, ...]
    left_out: tuple[int, ...]

    def run(self, facts: np.ndarray, matrix: np.ndarray, given: Mapping[str, np.ndarray], mask: np.ndarray) -> None:
        """Write 0 or 1 for each payment and rule to `mask` (n, rules) u1, and nothing for rules left out.

        `facts` (n,) of dtype FACTS, `matrix` (n, features) f4, `given` (n,) bool by name.
        """
        n = len(facts)
        raw = np.ascontiguousarray(facts).view("u1").reshape(n, FACTS.itemsize)
        columns = np.zeros((len(self.given), n), "u1")
        for place, name in enumerate(self.given):
            columns[place] = given[name]
        run(self.steps, raw, np.ascontiguousarray(matrix, "f4"), columns, mask)


class Untranslatable(Exception):
    """An expression holds something that the machine has no step for."""


Key = tuple[int, int, int, float, int]


@dataclass
class _Writer:
    """Turns trees into steps, each said once."""

    words: Mapping[str, Named]
    places: Mapping[str, int]  # feature → column of the matrix
    steps: dict[Key, int] = field(default_factory=dict)
    values: list[float] = field(default_factory=list)
    given: dict[str, int] = field(default_factory=dict)

    def step(self, op: Op, left: int = 0, right: int = 0, number: float = 0.0, special: int = 0) -> int:
        """The register of this step, new or written before."""
        return self.steps.setdefault((int(op), left, right, number, special), len(self.steps))

    def write(self, node: ast.expr) -> int:
        """The register that will hold what `node` says. Raises Untranslatable."""
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Constant):
            return self.step(Op.CONSTANT, number=_literal(node))
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self.step(_OPERATORS[type(node.op)], self.write(node.left), self.write(node.right))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return self.step(_OPERATORS[type(node.op)], self.write(node.operand))
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            return self._compare(type(node.ops[0]), self.write(node.left), self.write(node.comparators[0]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node.func.id, node.args)
        raise Untranslatable(type(node).__name__)

    def _compare(self, operator: type[ast.AST], left: int, right: int) -> int:
        if operator in _SWAPPED:
            return self.step(_SWAPPED[operator], right, left)
        if operator not in _OPERATORS:
            raise Untranslatable(operator.__name__)
        return self.step(_OPERATORS[operator], left, right)

    def _call(self, name: str, arguments: Sequence[ast.expr]) -> int:
        if name == "_among" and isinstance(arguments[1], ast.Tuple):
            wanted = [_literal(each) for each in arguments[1].elts]
            register, start = self.write(arguments[0]), len(self.values)
            self.values += wanted
            return self.step(Op.AMONG, register, start, special=len(wanted))
        if name not in _CALLS:
            raise Untranslatable(name)
        registers = [self.write(each) for each in arguments]
        if name not in ("_min", "_max"):
            return self.step(_CALLS[name], *registers)
        first, *others = registers
        for other in others:
            first = self.step(_CALLS[name], first, other)
        return first

    def _name(self, name: str) -> int:
        word = self.words.get(name)
        if word is None:  # bound by name: a membership of lists
            return self.step(Op.GIVEN, self.given.setdefault(name, len(self.given)))
        if word.column is None:
            place = self.places[name]
            if word.kind == "flag":
                return self.step(Op.FLAG_FEATURE, place)
            return self.step(Op.FEATURE, place, number=word.scale)
        if not isinstance(word.column, Stored):
            raise Untranslatable(name)
        return self._stored(word.column)

    def _stored(self, column: Stored) -> int:
        kind, offset = FIELDS[column.name][:2]
        width = int(kind.itemsize)
        if column.kind == "bit":
            return self.step(Op.BIT, offset, width, special=column.bit)
        if kind.kind == "f":
            if width != 4:
                raise Untranslatable(column.name)
            return self.step(Op.FLOAT_FACT, offset, number=column.scale)
        absent = NEVER if column.kind == "raw" or column.absent is None else int(column.absent)
        return self.step(Op.FACT, offset, width, 1.0 if column.kind == "raw" else column.scale, absent)


def _literal(node: ast.expr) -> float:
    """The number that stands there; texts are codes by now. Raises Untranslatable."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    raise Untranslatable(type(node).__name__)


def program_of(trees: Sequence[ast.expr | None], words: Mapping[str, Named], features: Sequence[str]) -> Program:
    """The program of checked expressions, None for a rule that never hits; `features`: columns of the matrix."""
    writer = _Writer(words, {name: place for place, name in enumerate(features)})
    results, left_out = np.full(len(trees), -1, "i4"), []
    for rule, tree in enumerate(trees):
        if tree is not None:
            try:
                results[rule] = writer.write(tree)
            except Untranslatable:
                left_out.append(rule)
    kinds = [("op", "i4"), ("left", "i4"), ("right", "i4"), ("number", "f8"), ("special", "i8")]
    table = np.array(list(writer.steps), kinds)
    columns = {name: table[name].copy() for name, _ in kinds}
    steps = Steps(**columns, values=np.array(writer.values, "f8"), results=results)
    return Program(steps, tuple(writer.given), tuple(left_out))


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _combine(op, one, other, memory, out, rows):  # inlined: `run` gives the types
    """One step that works on registers."""
    if op == Op.ADD:
        for row in range(rows):
            memory[out + row] = memory[one + row] + memory[other + row]
    elif op == Op.SUBTRACT:
        for row in range(rows):
            memory[out + row] = memory[one + row] - memory[other + row]
    elif op == Op.MULTIPLY or op == Op.BOTH:
        for row in range(rows):
            memory[out + row] = memory[one + row] * memory[other + row]
    elif op == Op.DIVIDE:
        for row in range(rows):
            memory[out + row] = np.nan if memory[other + row] == 0 else memory[one + row] / memory[other + row]
    elif op == Op.NEGATIVE:
        for row in range(rows):
            memory[out + row] = -memory[one + row]
    elif op == Op.ABSOLUTE:
        for row in range(rows):
            memory[out + row] = abs(memory[one + row])
    elif op == Op.LEAST:  # what is not known stays so
        for row in range(rows):
            a, b = memory[one + row], memory[other + row]
            memory[out + row] = a if a != a or a <= b else b
    elif op == Op.MOST:
        for row in range(rows):
            a, b = memory[one + row], memory[other + row]
            memory[out + row] = a if a != a or a >= b else b
    elif op == Op.UNKNOWN:
        for row in range(rows):
            memory[out + row] = memory[one + row] != memory[one + row]
    elif op == Op.BELOW:
        for row in range(rows):
            memory[out + row] = memory[one + row] < memory[other + row]
    elif op == Op.AT_MOST:
        for row in range(rows):
            memory[out + row] = memory[one + row] <= memory[other + row]
    elif op == Op.EQUAL:
        for row in range(rows):
            memory[out + row] = memory[one + row] == memory[other + row]
    elif op == Op.UNEQUAL:
        for row in range(rows):
            memory[out + row] = memory[one + row] != memory[other + row]
    elif op == Op.EITHER:
        for row in range(rows):
            memory[out + row] = max(memory[one + row], memory[other + row])
    elif op == Op.NOT:
        for row in range(rows):
            memory[out + row] = 1.0 - memory[one + row]


@njit(cache=True, nogil=True, inline="always")
def _integer(raw, row, at, width):  # inlined: `run` gives the types
    """The signed little-endian integer at byte `at` of a row, 2, 4 or 8 bytes wide."""
    low = np.int64(raw[row, at]) | np.int64(raw[row, at + 1]) << 8
    if width == 2:
        return np.int64(np.int16(low))
    low |= np.int64(raw[row, at + 2]) << 16 | np.int64(raw[row, at + 3]) << 24
    if width == 4:
        return np.int64(np.int32(low))
    high = np.int64(raw[row, at + 4]) | np.int64(raw[row, at + 5]) << 8
    high |= np.int64(raw[row, at + 6]) << 16 | np.int64(raw[row, at + 7]) << 24
    return low | high << 32


@njit(cache=True, nogil=True, error_model="numpy")
def run(steps: Steps, raw: np.ndarray, matrix: np.ndarray, given: np.ndarray, mask: np.ndarray) -> None:
    """Take all steps for all payments; see `Program.run`. `raw` (n, bytes) u1: the facts as they lie in memory."""
    memory = np.empty(len(steps.op) * BLOCK)  # flat: a slice for each step would cost more than the step
    bits = np.empty(1, np.uint32)
    as_float = bits.view(np.float32)
    for begin in range(0, len(raw), BLOCK):
        rows = min(BLOCK, len(raw) - begin)
        for step in range(len(steps.op)):
            op, left, right, number = steps.op[step], steps.left[step], steps.right[step], steps.number[step]
            special = steps.special[step]
            out = step * BLOCK
            if op >= Op.ADD:
                _combine(op, left * BLOCK, right * BLOCK, memory, out, rows)
                if op == Op.AMONG:
                    for row in range(rows):
                        memory[out + row] = 0.0
                    for place in range(right, right + special):
                        value = steps.values[place]
                        for row in range(rows):
                            if memory[left * BLOCK + row] == value:
                                memory[out + row] = 1.0
            elif op == Op.CONSTANT:
                if begin == 0:
                    for row in range(rows):
                        memory[out + row] = number
            elif op == Op.FEATURE:
                for row in range(rows):
                    memory[out + row] = np.float64(matrix[begin + row, left]) * number
            elif op == Op.FLAG_FEATURE:
                for row in range(rows):
                    memory[out + row] = matrix[begin + row, left] == 1
            elif op == Op.FACT:
                for row in range(rows):
                    value = _integer(raw, begin + row, left, right)
                    memory[out + row] = np.nan if value == special else np.float64(value) * number
            elif op == Op.FLOAT_FACT:
                for row in range(rows):
                    bits[0] = np.uint32(_integer(raw, begin + row, left, 4))
                    memory[out + row] = np.float64(as_float[0]) * number
            elif op == Op.BIT:
                for row in range(rows):
                    memory[out + row] = (_integer(raw, begin + row, left, right) & special) != 0
            elif op == Op.GIVEN:
                for row in range(rows):
                    memory[out + row] = given[left, begin + row] != 0
        for rule in range(len(steps.results)):
            result = steps.results[rule] * BLOCK
            if result >= 0:
                for row in range(rows):
                    mask[begin + row, rule] = memory[result + row] != 0
