"""Chat templates of models: other people's programs, run in a sandbox, within bounds, and always on the same
day.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from dpaudit.errors import UsageError

STEPS = 1_000_000  # turns of loops of one rendering
CALL = 10  # steps that a call counts as
CHARACTERS = 1_000_000  # of one rendering beyond what its dialogue holds, and of one value inside
GROWTH = 8  # how often a template may write a dialogue out
DIGITS = 10_000  # bits of a number that a template raises to a power
DAY = datetime(2025, 1, 1)  # the date that templates see: stages of one run may run on several days
RAISED = (
    jinja2.TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,  # Python's own, for a template with too many blocks inside each other
    TypeError,
    ValueError,
)
SHOWN = 120  # characters of a template's own complaint
PROBE = "\U0010fffd"  # a character that no template writes itself
REMEDY = "correct chat_template.jinja or chat_template in tokenizer_config.json there"

Message = dict[str, str]


class Refused(UsageError):
    """A dialogue that a chat template does not take, or writes so that its answers cannot be told apart."""


@dataclass(frozen=True, eq=False)
class Template:
    """A compiled chat template. `where` names the folder that it came with."""

    source: str
    where: str
    special_tokens: dict[str, Any]
    compiled: jinja2.Template

    def write(
        self, messages: Sequence[Message], *, prompt: bool = False, marks: tuple[str, str] = ("", "")
    ) -> str:
        """The dialogue as text; `prompt` opens the next answer, `marks` go around what the template says it
        generates.

        Raises Refused for a dialogue that it does not take and UsageError where the template does not end.
        """
        bounds = self.compiled.environment
        assert isinstance(bounds, _Bounded)
        bounds.begin(marks)
        most = CHARACTERS + GROWTH * sum(len(message["content"]) for message in messages)
        given = {**self.special_tokens, "messages": [dict(message) for message in messages]}
        pieces, size = [], 0
        try:
            for piece in self.compiled.generate(
                given, tools=None, documents=None, add_generation_prompt=prompt
            ):
                size += len(piece)
                if size > most:
                    raise _Endless
                pieces.append(piece)
        except _Endless:
            raise self.fault(
                "a template that ends", f"more than {STEPS:,} steps or {CHARACTERS:,} characters"
            ) from None
        except RAISED as error:
            raise Refused(
                self.where,
                expected="turns that the chat template takes",
                got=f"its error {_told(error, self.source)}",
                remedy="leave such rows out, or reorder their turns",
            ) from None
        return "".join(pieces)

    @cached_property
    def takes_system(self) -> bool:
        """Whether it writes what a system turn says; some raise an error there, and some leave the turn
        out.
        """
        turns = [{"role": role, "content": "?"} for role in ("user", "assistant", "user", "assistant")]
        try:
            return all(
                PROBE in self.write([{"role": "system", "content": PROBE}, *turns[:count]])
                for count in (1, len(turns))
            )
        except Refused:
            return False

    def fault(self, expected: str, got: str) -> UsageError:
        """The error for a template that works for no dialogue at all."""
        return UsageError(self.where, expected, got, REMEDY)


def of_tokenizer(tokenizer: Any) -> Template | None:
    """The chat template of a tokenizer, of several the one named default; None where it has none.

    Raises UsageError in one line for one that is empty, does not compile, or is not named.
    """
    given = tokenizer.chat_template
    if given is None:
        return None
    where = f"{tokenizer.name_or_path or 'the tokenizer'}: chat template"
    if isinstance(given, dict):
        if "default" not in given:
            names = ", ".join(sorted(map(str, given))) or "no template"
            raise UsageError(
                where,
                "a template named default among several",
                f"{names:.{SHOWN}}",
                "name one of them default in tokenizer_config.json there",
            )
        given = given["default"]
    if not isinstance(given, str) or not given.strip():
        raise UsageError(where, "a template that writes the turns", "an empty template", REMEDY)
    return _template(given, where, json.dumps(tokenizer.special_tokens_map, default=str))


@lru_cache(maxsize=16)
def _template(source: str, where: str, special_tokens: str) -> Template:
    return Template(source, where, json.loads(special_tokens), _compiled(source, where))


def _compiled(source: str, where: str) -> jinja2.Template:
    environment = _Bounded()
    try:
        tree = environment.parse(source)
        _Counting().visit(tree)
        return environment.from_string(tree)
    except RAISED as error:
        raise UsageError(where, "a Jinja template", _told(error, source), REMEDY) from None


def _told(error: BaseException, source: str) -> str:
    """The part of an error that may be shown: words of the template itself, never of the dialogue."""
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"{error.message or 'an error':.{SHOWN}} (line {error.lineno})"
    message = str(error)
    is_own = isinstance(error, jinja2.TemplateError) and message and message in source
    return f"{message:.{SHOWN}}" if is_own else type(error).__name__


# ---- the sandbox: what Transformers gives a template, and an end to it


class _Endless(Exception):
    """A rendering that went beyond its bounds."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %} … {% endgeneration %}`: what the template says the model generates."""

    tags = {"generation"}  # noqa: RUF012 (Jinja reads it from the class)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        assert isinstance(self.environment, _Bounded)
        first, last = self.environment.marks
        return f"{first}{caller()}{last}"


class _Counting(NodeTransformer):
    """Lets every loop and every joined text of a template go through the bounds."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # the name is Jinja's
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None).set_lineno(node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(node, "_sized", [], [], None, None).set_lineno(node.lineno)


class _Bounded(ImmutableSandboxedEnvironment):
    """The environment of Transformers' chat templates, within bounds. One rendering at a time."""

    intercepted_binops = frozenset(("+", "*", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        self.marks, self.steps = ("", ""), 0
        self.filters |= {"tojson": _json, "_counted": _counted, "_sized": _sized}
        self.globals |= {
            "raise_exception": _raise,
            "strftime_now": DAY.strftime,
            "dict": _Dictionary(),
            "namespace": _Namespace,
        }

    def begin(self, marks: tuple[str, str]) -> None:
        self.marks, self.steps = marks, 0

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > STEPS:
            raise _Endless

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self.spend(CALL)
        return super().call(*args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and (_length(left) * _number(right) + _length(right) * _number(left)) > CHARACTERS:
            raise _Endless
        if operator == "**" and _number(left).bit_length() * _number(right) > DIGITS:
            raise _Endless
        return _within(super().call_binop(context, operator, left, right))


@jinja2.pass_context
def _counted(context: jinja2.runtime.Context, values: Any) -> Any:
    """The values of a loop, counted before it begins; takes the context, so that Jinja computes none in
    advance.
    """
    listed = values if hasattr(values, "__len__") else list(islice(values, STEPS + 1))
    assert isinstance(context.environment, _Bounded)
    context.environment.spend(len(listed) + 1)
    return listed


@jinja2.pass_context
def _sized(context: jinja2.runtime.Context, text: Any) -> Any:
    return _within(text)


def _within(value: Any) -> Any:
    if _length(value) > 16 * CHARACTERS:  # a dialogue's own texts may be long
        raise _Endless
    return value


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | tuple) else 0


def _number(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class _Dictionary:
    """`dict` for templates: it makes dictionaries and shows nothing of Python's class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


class _Namespace(jinja2.utils.Namespace):
    """A namespace without names that begin with an underscore, as Transformers has it."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError("a name that begins with an underscore")
        super().__setitem__(name, value)
