"""Rules: expressions an analyst can read, over fields and features, evaluated on a whole batch as columns.

    channel == "ecommerce" and merchant_country != customer_country and amount >= 500
    3 <= customer_count_10m and not missing(device)
    device in list("emulators") or merchant in watch

The text is parsed with Python's own grammar, every node is checked against a short list, every name against the
vocabulary, every comparison against the types; then a new expression is built from checked parts alone and compiled, so
that nothing a person types is ever executed as it stands. What was not sent, and any number that is not known, compares
false, `!=` and `not in` included; `missing(name)` asks for it. A division by zero gives "not known".
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import reduce
from types import CodeType
from typing import NoReturn, Protocol

import numpy as np

from scoring.features import FEATURES, Feature
from scoring.matching import COLUMNS, Found, Listing
from scoring.programs import Stored, program_of
from transactions import codes
from transactions.codes import CodeTable
from transactions.facts import NOT_SENT
from transactions.fields import CodeField
from transactions.models import Transaction

log = logging.getLogger(__name__)

MAX_LENGTH = 1000
MAX_DEPTH = 20
MAX_NODES = 250
MAX_LITERALS = 200
LARGEST = 1e15

Column = Callable[[np.ndarray], np.ndarray]


class RuleError(ValueError):
    """An expression that cannot be a rule: what is wrong, and where (`position` counts characters from 1)."""

    def __init__(self, message: str, position: int):
        super().__init__(f"{message} (at character {position})")
        self.message = message
        self.position = position


# --- what a rule may speak of -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A name a rule may use. `kind` is number, text (a code of `table`), flag or entity (only good for missing())."""

    name: str
    kind: str
    text: str
    table: CodeTable | None = None
    column: Column | None = None  # None: a feature, taken from the matrix
    scale: float = 1.0  # of a feature: amounts are shown and compared in whole units


def _number(name: str, scale: float = 1.0) -> Stored:
    return Stored(name, "number", scale, NOT_SENT.get(name))


def _flag(bit: int) -> Stored:
    return Stored("device_flags", "bit", bit=bit)


def _as_stored(name: str) -> Stored:
    return Stored(name, "raw")


_ENTITIES = (*codes.ENTITY, "bin")


def _text_words() -> Iterable[Word]:
    for each in Transaction._meta.fields:
        if isinstance(each, CodeField) and each.name != "intake":
            what = f"{each.verbose_name}: one of the codes of the API."
            yield Word(each.name, "text", what, each.table, _as_stored(each.attname))


def fact_words(exponent: int = 2) -> dict[str, Word]:
    """The fields of a payment. Amounts are in whole units of the base currency, which has `exponent` decimals."""
    unit = 10.0**-exponent
    words = [
        Word("amount", "number", "Amount in base currency.", None, _number("amount_base", unit)),
        Word("balance_before", "number", "Balance before the payment.", None, _number("balance_before", unit)),
        Word("mcc", "number", "Merchant category code.", None, _number("mcc")),
        Word("lat", "number", "Latitude in degrees.", None, _number("lat")),
        Word("lon", "number", "Longitude in degrees.", None, _number("lon")),
        Word("session_age", "number", "Seconds from session start to payment.", None, _number("session_age")),
        *_text_words(),
        *(Word(name, "flag", f"Device flag {name}.", None, _flag(bit)) for name, bit in codes.DEVICE_FLAGS.items()),
        *(Word(n, "entity", f"The {n}: in list(…) and missing() only.", None, _as_stored(n)) for n in _ENTITIES),
    ]
    return {word.name: word for word in words}


def feature_word(feature: Feature, exponent: int = 2) -> Word:
    """A feature as a word: 0/1 is a flag (not known counts as no), amounts are in whole units of the base currency."""
    kind = "flag" if feature.unit == "0/1" else "number"
    scale = 10.0**-exponent if feature.unit.startswith("minor units") else 1.0
    return Word(feature.name, kind, feature.description, scale=scale)


def vocabulary(features: Iterable[Feature] = FEATURES, exponent: int = 2) -> dict[str, Word]:
    """Every name a rule may use: the fields, and the kernel's features where no field has that name."""
    return {feature.name: feature_word(feature, exponent) for feature in features} | fact_words(exponent)


# --- checking and compiling -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Membership:
    """What a rule asks the lists: does `column` of a payment stand on the list `choice`, or on any of that kind?"""

    column: str
    subject: str
    choice: str
    is_kind: bool

    @property
    def bound(self) -> str:
        """The name under which the answer, a column of bools, is bound; no word of the language looks like it."""
        return f"_in {self.column} {'any ' if self.is_kind else ''}{self.choice}"

    def answer(self, found: Found | None, n: int) -> np.ndarray:
        """The column; nothing stands on a list where there are none."""
        if found is None:
            return np.zeros(n, bool)
        return found.is_on(self.subject, self.column, found.lists.chosen(self.choice, self.subject, self.is_kind))


@dataclass(frozen=True)
class Part:
    """A checked piece of an expression: its new tree, its kind, and where it stood."""

    tree: ast.expr
    kind: str  # number, text, flag, entity, words (a literal text)
    table: CodeTable | None = None
    literal: str = ""
    position: int = 1


_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.In: "in",
    ast.NotIn: "not in",
}
_ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def _divide(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(right == 0, np.nan, np.divide(left, right))


def _least(*columns: np.ndarray) -> np.ndarray:
    return reduce(np.minimum, columns)


def _most(*columns: np.ndarray) -> np.ndarray:
    return reduce(np.maximum, columns)


def _among(column: np.ndarray, values: tuple[float, ...]) -> np.ndarray:
    return reduce(np.logical_or, [column == value for value in values])


# What a compiled rule can reach besides its columns. The underscore keeps them apart from every name of the vocabulary.
_TOOLS: dict[str, object] = {
    "__builtins__": {},
    "_divide": _divide,
    "_min": _least,
    "_max": _most,
    "_abs": np.abs,
    "_isnan": np.isnan,
    "_among": _among,
}


def _call(tool: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(tool, ast.Load()), list(arguments), [])


def _compare(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> ast.expr:
    return ast.Compare(left, [operator], [right])


def _all(parts: Sequence[ast.expr]) -> ast.expr:
    return reduce(lambda a, b: ast.BinOp(a, ast.BitAnd(), b), parts)


def _any(parts: Sequence[ast.expr]) -> ast.expr:
    return reduce(lambda a, b: ast.BinOp(a, ast.BitOr(), b), parts)


class _Checker:
    """Walks one parsed expression and rebuilds it from what is allowed; collects the names and lists it met."""

    def __init__(self, source: str, words: Mapping[str, Word], lists: Mapping[str, Listing]):
        self.source = source
        self.words = words
        self.lists = lists
        self.used: dict[str, Word] = {}
        self.memberships: dict[str, Membership] = {}
        self.nodes = 0

    def position(self, node: ast.AST) -> int:
        """The character (from 1) at which `node` begins; the parser counts bytes."""
        return len(self.source.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore")) + 1

    def refuse(self, node: ast.AST, message: str) -> NoReturn:
        raise RuleError(message, self.position(node))

    def check(self, node: ast.AST, depth: int = 0) -> Part:
        self.nodes += 1
        if depth > MAX_DEPTH:
            self.refuse(node, f"nested more than {MAX_DEPTH} deep")
        if self.nodes > MAX_NODES:
            self.refuse(node, f"more than {MAX_NODES} parts")
        visit = getattr(self, f"on_{type(node).__name__.lower()}", None)
        if visit is None:
            self.refuse(node, f"{_plain(node)} is not part of the rule language")
        return visit(node, depth + 1)

    def flag(self, node: ast.AST, depth: int) -> Part:
        part = self.check(node, depth)
        if part.kind != "flag":
            self.refuse(node, "expected something true or false, such as a comparison")
        return part

    def number(self, node: ast.AST, depth: int) -> Part:
        part = self.check(node, depth)
        if part.kind != "number":
            self.refuse(node, f"expected a number, not {_KINDS[part.kind]}")
        return part

    def on_boolop(self, node: ast.BoolOp, depth: int) -> Part:
        trees = [self.flag(value, depth).tree for value in node.values]
        joined = _all(trees) if isinstance(node.op, ast.And) else _any(trees)
        return Part(joined, "flag", position=self.position(node))

    def on_unaryop(self, node: ast.UnaryOp, depth: int) -> Part:
        if isinstance(node.op, ast.Not):
            return Part(ast.UnaryOp(ast.Invert(), self.flag(node.operand, depth).tree), "flag")
        if isinstance(node.op, ast.USub):
            return Part(ast.UnaryOp(ast.USub(), self.number(node.operand, depth).tree), "number")
        return self.refuse(node, f"{_plain(node.op)} is not part of the rule language")

    def on_binop(self, node: ast.BinOp, depth: int) -> Part:
        if type(node.op) not in _ARITHMETIC:
            self.refuse(node, f"{_plain(node.op)} is not part of the rule language; use + - * /")
        left, right = self.number(node.left, depth).tree, self.number(node.right, depth).tree
        divided = isinstance(node.op, ast.Div)
        return Part(_call("_divide", left, right) if divided else ast.BinOp(left, node.op, right), "number")

    def on_constant(self, node: ast.Constant, depth: int) -> Part:
        if isinstance(node.value, str):
            return Part(node, "words", literal=node.value, position=self.position(node))
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            self.refuse(node, f"{node.value!r} is not a number or a text; write a flag's name alone, or not name")
        if abs(node.value) > LARGEST:
            self.refuse(node, "that number is too large")
        return Part(ast.Constant(float(node.value)), "number")

    def on_name(self, node: ast.Name, depth: int) -> Part:
        word = self.words.get(node.id)
        if word is None:
            self.refuse(node, f"unknown name {node.id}{_nearest(node.id, self.words)}")
        self.used[word.name] = word
        return Part(ast.Name(word.name, ast.Load()), word.kind, word.table, position=self.position(node))

    def on_call(self, node: ast.Call, depth: int) -> Part:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "list":
            self.refuse(node, 'a list stands after in: customer in list("name")')
        if name not in _FUNCTIONS:
            self.refuse(node, f"unknown function{_nearest(name, _FUNCTIONS)}; there are {', '.join(_FUNCTIONS)}")
        least, most = _FUNCTIONS[name]
        if node.keywords or not least <= len(node.args) <= most:
            self.refuse(node, f"{name}() takes {least if least == most else f'{least} to {most}'} values")
        if name == "missing":
            return self._missing(node.args[0], depth)
        return Part(_call(f"_{name}", *(self.number(each, depth).tree for each in node.args)), "number")

    def _missing(self, node: ast.AST, depth: int) -> Part:
        part = self.check(node, depth)
        if not isinstance(part.tree, ast.Name) or part.kind == "flag":
            self.refuse(node, "missing() asks for the name of a field or feature")
        unknown = part.kind == "number"
        asked = _call("_isnan", part.tree) if unknown else _compare(part.tree, ast.Eq(), ast.Constant(0))
        return Part(asked, "flag")

    def on_compare(self, node: ast.Compare, depth: int) -> Part:
        pairs, left = [], node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            pairs.append(self._pair(node, left, operator, right, depth))
            left = right
        return Part(_all(pairs), "flag")

    def _pair(self, node: ast.Compare, left: ast.AST, operator: ast.cmpop, right: ast.AST, depth: int) -> ast.expr:
        if type(operator) not in _COMPARISONS:
            self.refuse(node, "use == or != instead of is")
        if isinstance(operator, ast.In | ast.NotIn):
            return self._membership(left, isinstance(operator, ast.In), right, depth)
        one, other = self.check(left, depth), self.check(right, depth)
        if "text" in (one.kind, other.kind):
            return self._texts(node, one, operator, other)
        for side, part in ((left, one), (right, other)):
            if part.kind != "number":
                self.refuse(side, f"expected a number, not {_KINDS[part.kind]}")
        if not _speaks(one.tree) and not _speaks(other.tree):
            self.refuse(left, "compare a field or a feature, not two numbers")
        if isinstance(operator, ast.NotEq):  # with a plain != an unknown number would differ from everything
            return _any([_compare(one.tree, ast.Lt(), other.tree), _compare(one.tree, ast.Gt(), other.tree)])
        return _compare(one.tree, operator, other.tree)

    def _texts(self, node: ast.Compare, one: Part, operator: ast.cmpop, other: Part) -> ast.expr:
        if not isinstance(operator, ast.Eq | ast.NotEq):
            self.refuse(node, "texts can be compared with ==, !=, in and not in only")
        if one.kind != "text":
            one, other = other, one
        sent = [_compare(one.tree, ast.NotEq(), ast.Constant(0))]
        if other.kind == "words":
            return _all([_compare(one.tree, operator, ast.Constant(self._code(one, other))), *sent])
        if other.kind != "text" or other.table is not one.table:
            raise RuleError(f"expected a {one.table.name if one.table else 'text'}", other.position)
        sent.append(_compare(other.tree, ast.NotEq(), ast.Constant(0)))
        return _all([_compare(one.tree, operator, other.tree), *sent])

    def _code(self, text: Part, words: Part) -> int:
        table = text.table
        if table is None or words.literal not in table:
            known = table or ()
            name = table.name if table else "text"
            raise RuleError(f'"{words.literal}" is not a {name}{_nearest(words.literal, known)}', words.position)
        return table.code(words.literal)

    def _membership(self, left: ast.AST, within: bool, right: ast.AST, depth: int) -> ast.expr:
        if _is_list(right):
            return self._listed(left, within, right, depth)
        if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not 1 <= len(right.elts) <= MAX_LITERALS:
            self.refuse(right, f"expected 1 to {MAX_LITERALS} values in brackets, such as (1, 2)")
        part = self.check(left, depth)
        if part.kind not in ("number", "text") or not _speaks(part.tree):
            self.refuse(left, "expected a field or feature that is a number or a text")
        values = [self._literal(part, each) for each in right.elts]
        hit = _call("_among", part.tree, ast.Tuple([ast.Constant(value) for value in values], ast.Load()))
        if within:
            return hit
        known = _compare(part.tree, ast.NotEq(), ast.Constant(0))
        if part.kind == "number":
            known = _compare(part.tree, ast.Eq(), part.tree)
        return _all([ast.UnaryOp(ast.Invert(), hit), known])

    def _listed(self, left: ast.AST, within: bool, right: ast.AST, depth: int) -> ast.expr:
        """`customer in list("mules")`, `device in watch`; what was not sent is on no list, and not off one either."""
        part = self.check(left, depth)
        subject = _subject(part)
        if not isinstance(part.tree, ast.Name) or subject not in COLUMNS:
            self.refuse(left, f"expected {', '.join(_ENTITY_SUBJECTS)} or a country before in list(…)")
        choice, is_kind = self._choice(right, subject)
        asked = Membership(part.tree.id, subject, choice, is_kind)
        self.memberships[asked.bound] = asked
        hit = ast.Name(asked.bound, ast.Load())
        if within:
            return hit
        return _all([ast.UnaryOp(ast.Invert(), hit), _compare(part.tree, ast.NotEq(), ast.Constant(0))])

    def _choice(self, right: ast.AST, subject: str) -> tuple[str, bool]:
        """The name of a list that holds `subject`, or a kind of lists (True)."""
        if isinstance(right, ast.Name):
            return right.id, True
        name = right.args[0] if isinstance(right, ast.Call) and len(right.args) == 1 and not right.keywords else None
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            self.refuse(right, 'list() takes the name of a list, such as list("emulators")')
        found = self.lists.get(name.value)
        if found is None:
            self.refuse(name, f"there is no list {name.value}{_nearest(name.value, self.lists)}")
        if found.subject != subject:
            self.refuse(name, f"the list {found.name} holds a {found.subject} each, not a {subject}")
        return found.name, False

    def _literal(self, part: Part, node: ast.AST) -> float:
        sign, bare = (
            (-1, node.operand) if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else (1, node)
        )
        if not isinstance(bare, ast.Constant):
            self.refuse(node, "only numbers and texts may stand in a list")
        value = self.on_constant(bare, 0)
        if part.kind == "text" and value.kind == "words":
            return self._code(part, value)
        if part.kind == "number" and isinstance(bare.value, int | float):
            return sign * float(bare.value)
        return self.refuse(node, f"expected {_KINDS[part.kind]} in this list")


_KINDS = {
    "number": "a number",
    "text": "a text",
    "words": "a text",
    "flag": "something true or false",
    "entity": "an entity (use in list(…) or missing() on it)",
}
_LIST_KINDS = ("block", "allow", "watch")
_ENTITY_SUBJECTS = tuple(subject for subject in COLUMNS if subject != "country")
_FUNCTIONS = {"abs": (1, 1), "min": (2, 8), "max": (2, 8), "missing": (1, 1)}
_PLAIN = {
    "Attribute": "a dot",
    "Subscript": "an index in brackets",
    "Lambda": "lambda",
    "IfExp": "if … else",
    "NamedExpr": "an assignment",
    "JoinedStr": "an f-text",
    "Pow": "**",
    "Mod": "%",
    "FloorDiv": "//",
    "Tuple": "a list without in",
    "List": "a list without in",
}


def _speaks(tree: ast.expr) -> bool:
    """Whether `tree` holds a name of the vocabulary, so that it is a column and not a lone number."""
    return any(isinstance(node, ast.Name) and not node.id.startswith("_") for node in ast.walk(tree))


def _is_list(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return node.id in _LIST_KINDS
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "list"


def _subject(part: Part) -> str:
    """What a list must hold for this part to be looked up in it."""
    if part.kind == "text" and part.table is codes.COUNTRY:
        return "country"
    return part.tree.id if part.kind == "entity" and isinstance(part.tree, ast.Name) else ""


def _plain(node: ast.AST) -> str:
    return _PLAIN.get(type(node).__name__, type(node).__name__)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


@dataclass(frozen=True)
class Expression:
    """A checked rule text: compiled, with the words it uses and the lists it asks."""

    source: str
    code: CodeType
    words: tuple[Word, ...]
    memberships: tuple[Membership, ...] = ()
    tree: ast.expr | None = None  # what `code` was compiled from


def compile_expression(
    source: str, words: Mapping[str, Word], lists: Mapping[str, Listing] | None = None
) -> Expression:
    """Check and compile one rule text; `lists` by name are those it may ask. Raises RuleError with a position."""
    if len(source) > MAX_LENGTH:
        raise RuleError(f"longer than {MAX_LENGTH} characters", MAX_LENGTH + 1)
    flat = "".join(" " if c in "\r\n\t\f" else c for c in source)
    lead = len(flat) - len(flat.lstrip())
    checker = _Checker(flat, words, lists or {})
    part = checker.check(_parse(flat, lead))
    if part.kind != "flag":
        raise RuleError("a rule must be true or false: compare something", lead + 1)
    tree = ast.fix_missing_locations(ast.Expression(part.tree))
    code = compile(tree, "<rule>", "eval")
    return Expression(source, code, tuple(checker.used.values()), tuple(checker.memberships.values()), part.tree)


def _parse(flat: str, lead: int) -> ast.expr:
    if not flat.strip():
        raise RuleError("the rule is empty", 1)
    if "#" in flat:  # with line ends taken out, a comment would swallow the rest of the rule
        raise RuleError("# is not part of the rule language", flat.index("#") + 1)
    try:
        tree = ast.parse(flat.lstrip(), mode="eval").body
    except SyntaxError as error:
        hint = "; write == to compare" if "=" in (error.text or "")[max((error.offset or 1) - 1, 0) :][:2] else ""
        at = lead + error.offset if error.offset else len(flat) + 1
        raise RuleError(f"cannot be read here{hint}", min(at, len(flat) + 1)) from None
    except (ValueError, RecursionError, MemoryError):
        raise RuleError("cannot be read", lead + 1) from None
    for node in ast.walk(tree):
        if hasattr(node, "col_offset"):
            node.col_offset += lead
    return tree


# --- a release's rules ------------------------------------------------------------------------------------------------


class VersionedRule(Protocol):
    """What is needed of a `RuleVersion`."""

    pk: int
    number: int
    expression: str
    outcome: str
    weight: int
    sentence: str
    reason_id: str
    rule: object


@dataclass(frozen=True)
class Rule:
    """One rule of a release, ready to be evaluated. `code` is None if it could not be compiled: it never hits."""

    version_id: int
    name: str  # R-101 Card testing
    key: str
    number: int
    mode: str
    outcome: int
    weight: int
    reason: str
    sentence: str
    source: str
    words: tuple[Word, ...]
    code: CodeType | None
    flaw: str = ""
    memberships: tuple[Membership, ...] = ()
    tree: ast.expr | None = None  # for the release's program; without one, `code` is evaluated alone

    @property
    def live(self) -> bool:
        return self.mode == "live"


@dataclass
class Ruleset:
    """The rules of one release in the order of the hit mask. `failures` maps a rule's place to what it last raised."""

    rules: tuple[Rule, ...]
    features: tuple[str, ...]
    words: Mapping[str, Word]
    failures: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._place = {name: index for index, name in enumerate(self.features)}
        self._program = program_of([rule.tree for rule in self.rules], self.words, self.features)
        taken = {index for index, rule in enumerate(self.rules) if rule.tree} - set(self._program.left_out)
        self._alone = {index: rule.code for index, rule in enumerate(self.rules) if rule.code and index not in taken}
        self.memberships = {each.bound: each for rule in self.rules if rule.code for each in rule.memberships}
        live = [rule.outcome if rule.live else 1 for rule in self.rules]
        self.floors = np.array(live, dtype=np.uint8)  # the least outcome a hit demands; 1 (approve) for a shadow rule

    def evaluate(self, facts: np.ndarray, matrix: np.ndarray, found: Found | None = None) -> np.ndarray:
        """Which rules hit which payments, live and shadow alike: uint8 0/1 of shape (n, len(rules)).

        `facts`: (n,) of dtype FACTS; `matrix`: (n, n_features) float32; `found`: what the payments hit on the lists,
        None where there are none. All rules run as one program (scoring/programs.py); one that has something in it
        which the program cannot say is evaluated alone: if that fails it hits nothing, is noted in `failures` and
        logged once, and the others are not touched by it.
        """
        mask = np.zeros((len(facts), len(self.rules)), dtype=np.uint8)
        given = self._found(found, len(facts))
        self._program.run(facts, matrix, given, mask)
        for index, code in self._alone.items():
            mask[:, index] = self._apply(index, code, facts, matrix, given)
        return mask

    def _found(self, found: Found | None, n: int) -> dict[str, np.ndarray]:
        """The lists' answers to all that the rules ask of them: (n,) bool each."""
        return {name: asked.answer(found, n) for name, asked in self.memberships.items()}

    def _bound(self, rule: Rule, facts: np.ndarray, matrix: np.ndarray) -> dict[str, object]:
        """The words of one rule as columns."""
        bound: dict[str, object] = {}
        for word in rule.words:
            if word.column is not None:
                bound[word.name] = word.column(facts)
            else:
                column = matrix[:, self._place[word.name]] * np.float64(word.scale)
                bound[word.name] = column == 1 if word.kind == "flag" else column
        return bound

    def _apply(
        self, index: int, code: CodeType, facts: np.ndarray, matrix: np.ndarray, given: Mapping[str, np.ndarray]
    ) -> np.ndarray | int:
        """What one rule says by its own code, which was built from checked parts; 0 if it fails."""
        rule = self.rules[index]
        try:
            with np.errstate(all="ignore"):
                scope = {**_TOOLS, **self._bound(rule, facts, matrix), **given}
                return eval(code, scope)
        except (ArithmeticError, TypeError, ValueError, LookupError, NameError) as error:
            if index not in self.failures:
                log.error("rule %s failed: %s", rule.key, error)
            self.failures[index] = str(error)
            return 0

    def seen(self, rule: Rule, facts: np.ndarray, vector: np.ndarray) -> dict[str, float | str | bool | None]:
        """The values that `rule` saw of one payment, None = not known; `facts` (1,), `vector` (n_features,)."""
        return {word.name: self.value(word, facts, vector) for word in rule.words}

    def value(self, word: Word, facts: np.ndarray, vector: np.ndarray) -> float | str | bool | None:
        """What `word` was for one payment, as people read it."""
        raw = vector[self._place[word.name]] * word.scale if word.column is None else word.column(facts)[0]
        if word.kind == "text" and word.table is not None:
            return word.table.text(raw) or None
        if word.kind == "flag":
            return bool(raw == 1)
        if word.kind == "entity":
            return bool(raw) or None
        return round(float(raw), 6) if np.isfinite(raw) else None


def compile_ruleset(
    versions: Iterable[tuple[VersionedRule, str]],
    *,
    features: Sequence[Feature] = FEATURES,
    exponent: int = 2,
    lists: Mapping[str, Listing] | None = None,
) -> Ruleset:
    """The rules of a release from its (rule version, mode) pairs, in their order; "off" stays in place and never hits.

    `features`: the kernel's, in the order of the matrix; `exponent`: decimals of the lane's base currency; `lists`: the
    lane's, by name. A text that no longer compiles is kept with its flaw and never hits: one rule must not stop a lane.
    """
    words = vocabulary(features, exponent)
    names = tuple(feature.name for feature in features)
    return Ruleset(tuple(_compiled(version, mode, words, lists or {}) for version, mode in versions), names, words)


def _compiled(version: VersionedRule, mode: str, words: Mapping[str, Word], lists: Mapping[str, Listing]) -> Rule:
    expression, flaw = None, ""
    try:
        expression = compile_expression(version.expression, words, lists)
    except RuleError as error:
        flaw = str(error)
        log.error("rule version %s cannot be used: %s", version.pk, flaw)
    return Rule(
        version_id=version.pk,
        name=str(version.rule),
        key=str(getattr(version.rule, "code", version.rule)),
        number=version.number,
        mode=mode,
        outcome=codes.OUTCOME.code(version.outcome or "approve"),
        weight=version.weight,
        reason=version.reason_id,
        sentence=version.sentence,
        source=version.expression,
        words=expression.words if expression else (),
        code=expression.code if expression and mode != "off" else None,
        flaw=flaw,
        memberships=expression.memberships if expression else (),
        tree=expression.tree if expression and mode != "off" else None,
    )
