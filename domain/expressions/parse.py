"""From the text of an expression to its nodes, by recursive descent. The grammar is published in docs/numbers.md."""

import re
from typing import NamedTuple, cast, get_args

from domain.errors import Invalid
from domain.expressions.nodes import Call, FunctionName, Node, Number, Product, PropertyPath, Sum
from domain.quantities import parse_quantity

MAX_EXPRESSION_LENGTH = 1_000
MAX_EXPRESSION_DEPTH = 32

_MALFORMED = "expression_malformed"
_FUNCTIONS = frozenset[str](get_args(FunctionName))
_OF_ONE = frozenset({"abs", "ceil", "floor"})
_TOKEN = re.compile(
    r"(?P<blank>[ \t\r\n]+)"
    r"|(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*|`[^`]+`)"
    r"|(?P<sign>[-+*/(),.])"
)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int  # which character it begins with, from 1


def parse_expression(text: str) -> Node:
    """The nodes of `text`. Raises Invalid `expression_too_long`, `expression_too_deep` and `expression_malformed`: its
    message says at which character, counted from 1.
    """
    if len(text) > MAX_EXPRESSION_LENGTH:
        raise Invalid("expression_too_long", f"an expression has at most {MAX_EXPRESSION_LENGTH} characters")
    parser = _Parser(_tokens(text))
    node = parser.expression()
    parser.finish()
    if not parser.reads_properties:
        raise Invalid(_MALFORMED, "an expression reads at least one property")
    return node


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise Invalid(_MALFORMED, f"there is nothing like {text[at]!r} in an expression, at character {at + 1}")
        if found.lastgroup != "blank":
            tokens.append(_Token(str(found.lastgroup), found.group(), at + 1))
        at = found.end()
    return [*tokens, _Token("end", "", len(text) + 1)]


class _Parser:
    """One pass over the tokens; each method takes the tokens of the rule it is named for."""

    def __init__(self, tokens: list[_Token]) -> None:
        self.reads_properties = False
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    def finish(self) -> None:
        if self._next.kind != "end":
            raise self._unexpected("the end")

    def expression(self) -> Node:
        self._depth += 1
        if self._depth > MAX_EXPRESSION_DEPTH:
            raise Invalid("expression_too_deep", f"an expression nests at most {MAX_EXPRESSION_DEPTH} levels deep")
        terms = [(False, self._term())]
        while (sign := self._taken("+", "-")) is not None:
            terms.append((sign == "-", self._term()))
        self._depth -= 1
        return Sum(tuple(terms)) if len(terms) > 1 else terms[0][1]

    def _term(self) -> Node:
        factors = [(False, self._factor())]
        while (sign := self._taken("*", "/")) is not None:
            at, factor = self._next.at, self._factor()
            if sign == "/" and isinstance(factor, Number) and not factor.value:
                raise Invalid(_MALFORMED, f"the expression divides by zero, at character {at}")
            factors.append((sign == "/", factor))
        return Product(tuple(factors)) if len(factors) > 1 else factors[0][1]

    def _factor(self) -> Node:
        """Signs before an operand are told by their number, so a chain of them is no nesting."""
        negative = False
        while (sign := self._taken("+", "-")) is not None:
            negative ^= sign == "-"
        operand = self._operand()
        return Sum(((True, operand),)) if negative else operand

    def _operand(self) -> Node:
        if self._taken("(") is not None:
            node = self.expression()
            self._expect(")")
            return node
        token = self._next
        if token.kind == "number":
            self._place += 1
            return self._number(token)
        if token.kind != "name":
            raise self._unexpected("a number, a property or a bracket")
        self._place += 1
        if self._taken("(") is not None:
            return self._call(token)
        return self._path(token)

    def _number(self, token: _Token) -> Number:
        try:
            return Number(parse_quantity(token.text))
        except Invalid as invalid:
            raise Invalid(_MALFORMED, f"{invalid.message}, at character {token.at}") from None

    def _path(self, first: _Token) -> PropertyPath:
        names = [first.text.strip("`")]
        while self._taken(".") is not None:
            if self._next.kind != "name":
                raise self._unexpected("the name of a property")
            names.append(self._next.text.strip("`"))
            self._place += 1
        self.reads_properties = True
        return PropertyPath(tuple(names))

    def _call(self, name: _Token) -> Call:
        if name.text not in _FUNCTIONS:
            known = ", ".join(sorted(_FUNCTIONS))
            raise Invalid(_MALFORMED, f"{name.text!r} at character {name.at} is none of the functions {known}")
        arguments = [self.expression()]
        while self._taken(",") is not None:
            arguments.append(self.expression())
        self._expect(")")
        if (len(arguments) == 1) is not (name.text in _OF_ONE):
            wanted = "one value" if name.text in _OF_ONE else "two values or more"
            raise Invalid(_MALFORMED, f"{name.text} at character {name.at} takes {wanted}")
        return Call(cast("FunctionName", name.text), tuple(arguments))

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _taken(self, *signs: str) -> str | None:
        token = self._next
        if token.kind != "sign" or token.text not in signs:
            return None
        self._place += 1
        return token.text

    def _expect(self, sign: str) -> None:
        if self._taken(sign) is None:
            raise self._unexpected(repr(sign))

    def _unexpected(self, wanted: str) -> Invalid:
        token = self._next
        found = "the expression ends" if token.kind == "end" else f"there is {token.text!r}"
        return Invalid(_MALFORMED, f"{found} at character {token.at}, where {wanted} should be")
