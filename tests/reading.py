# SPDX-License-Identifier: Apache-2.0
"""What text an expression of our sources can be, read off the source without running it.

A text is a phrase as catalogues have it: `{}` where something stands that only a run knows. `f"{n} view{'s' if n > 1
else ''}"` can be "{} view" and "{} views"; names are followed to their assignments, parameters to the calls.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path

GAP = "{}"
_MOST = 8  # alternatives that one part of a sentence is spelled out with; more are a gap
_DEEPEST = 12
_NUMBER = re.compile(r"\d[\d.]*")  # a version, say, which will be another one soon
_WORD = re.compile(r"[A-Za-z]{2,}")
_KEPT_BY = ("rstrip", "strip", "lstrip")  # methods of text that leave the words alone


@dataclass
class Source:
    """A file, and the function that an expression of it is in."""

    name: str
    tree: ast.Module
    functions: dict[str, list[ast.FunctionDef]] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)

    @staticmethod
    def read(path: Path, name: str) -> Source:
        source = Source(name, ast.parse(path.read_text("utf-8"), name))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef):
                source.functions.setdefault(node.name, []).append(node)
        for node in source.tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                source.constants[node.targets[0].id] = node.value
        return source

    @cached_property
    def calls(self) -> dict[str, list[tuple[ast.Call, ast.FunctionDef | None]]]:
        """The calls of each name, with the function they are in."""
        found = {}
        for node, function in self.nodes():
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                found.setdefault(name, []).append((node, function))
        return found

    def nodes(self):
        """Every node with the innermost function around it."""
        waiting = [(self.tree, None)]
        while waiting:
            node, function = waiting.pop()
            yield node, function
            inner = node if isinstance(node, ast.FunctionDef) else function
            waiting += [(child, inner) for child in reversed(list(ast.iter_child_nodes(node)))]


class Reader:
    """Reads expressions of a set of sources."""

    def __init__(self, sources: list[Source]):
        self.sources = sources
        self.constants = {}
        for source in sources:
            for name, value in source.constants.items():
                self.constants.setdefault(name, []).append((source, value))

    def texts(self, node, source, function=None, seen=frozenset()) -> list[str]:
        """The phrases that an expression can be, the most telling first; [GAP] where nothing is known."""
        if node is None or len(seen) > _DEEPEST:
            return [GAP]
        ask = lambda part: self.texts(part, source, function, seen)  # noqa: E731
        if isinstance(node, ast.Constant):
            return [node.value.replace("{", "{{").replace("}", "}}")] if isinstance(node.value, str) else [GAP]
        if isinstance(node, ast.JoinedStr):
            before = [None, *node.values]
            return self._joined([self._part(part, ask, left) for left, part in zip(before, node.values, strict=False)])
        if isinstance(node, ast.IfExp):
            return _once([*ask(node.body), *ask(node.orelse)])
        if isinstance(node, ast.BoolOp):
            return _once([text for part in node.values for text in ask(part)])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = ask(node.left), ask(node.right)
            return [GAP] if left == right == [GAP] else self._joined([left, right])  # a sum of numbers, or text
        if isinstance(node, ast.Name):
            return self._named(node.id, source, function, seen)
        if isinstance(node, ast.Attribute) and node.attr.isupper():
            return _once([text for other, value in self.constants.get(node.attr, ())
                          for text in self.texts(value, other, None, seen)]) or [GAP]  # fmt: skip
        if isinstance(node, ast.Subscript):
            return self._values(node.value, source, function, seen) or [GAP]
        if isinstance(node, ast.Call):
            return self._call(node, source, function, seen)
        return [GAP]

    def elements(self, node, source, function=None) -> list[str]:
        """The phrases that the items of a list can be."""
        if isinstance(node, (ast.List, ast.Tuple)):
            return [text for part in node.elts if not isinstance(part, ast.Starred)
                    for text in self.texts(part, source, function)]  # fmt: skip
        if isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            return self.texts(node.elt, source, function)
        if isinstance(node, ast.IfExp):
            return self.elements(node.body, source, function) + self.elements(node.orelse, source, function)
        if isinstance(node, ast.BinOp):
            return self.elements(node.left, source, function) + self.elements(node.right, source, function)
        return []

    def _part(self, part, ask, left) -> list[str]:
        if not isinstance(part, ast.FormattedValue):
            return ask(part)
        quoted = isinstance(left, ast.Constant) and left.value.endswith(("'", '"'))  # a name, whatever it is now
        if part.conversion != -1 or part.format_spec is not None or quoted:
            return [GAP]
        found = ask(part.value)
        return found if len(found) <= _MOST and not any(_NUMBER.fullmatch(text) for text in found) else [GAP]

    @staticmethod
    def _joined(parts: list[list[str]]) -> list[str]:
        return _once(["".join(choice) for choice in product(*parts)])

    def _named(self, name: str, source, function, seen) -> list[str]:
        key = (source.name, name, id(function))
        if key in seen:
            return [GAP]
        seen = seen | {key}
        if function is None:
            value = source.constants.get(name)
            return self.texts(value, source, None, seen) if value is not None else self._imported(name, seen)
        found, more = [], []
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                found += [value for target in node.targets for value in _given(target, node.value, name)]
            elif isinstance(node, ast.NamedExpr) and node.target.id == name:
                found.append(node.value)
            elif isinstance(node, ast.AugAssign) and getattr(node.target, "id", "") == name:
                more.append(node.value)
            elif isinstance(node, (ast.For, ast.comprehension)) and name in _names_of(node.target):
                found.append(None)
        if found:
            texts = _once([text for value in found for text in self.texts(value, source, function, seen)])
            for value in more:
                texts = self._joined([texts, self.texts(value, source, function, seen)])
            return texts
        arguments = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
        if name in arguments:
            return self._passed(function, arguments, name, source, seen)
        return self._named(name, source, None, seen)

    def _imported(self, name: str, seen) -> list[str]:
        there = self.constants.get(name, ()) if name.isupper() else ()
        return _once([text for other, value in there for text in self.texts(value, other, None, seen)]) or [GAP]

    def _passed(self, function, arguments, name, source, seen) -> list[str]:
        """What the calls in the same file give for a parameter."""
        found = []
        for call, caller in source.calls.get(function.name, ()):
            first = 1 if arguments[0] in ("self", "cls") else 0
            given = {argument: value for argument, value in zip(arguments[first:], call.args, strict=False)}
            given |= {word.arg: word.value for word in call.keywords}
            if name in given:
                found += self.texts(given[name], source, caller, seen)
        return _once(found) or [GAP]

    def _call(self, node: ast.Call, source, function, seen) -> list[str]:
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in _KEPT_BY:
                return self.texts(node.func.value, source, function, seen)
            if node.func.attr == "get":
                values = self._values(node.func.value, source, function, seen)
                default = self.texts(node.args[1], source, function, seen) if len(node.args) > 1 else []
                return _once([*values, *default]) if values else [GAP]
        if isinstance(node.func, ast.Name):
            if node.func.id == "next" and len(node.args) == 2:
                return _once([GAP, *filter(None, self.texts(node.args[1], source, function, seen))])
            found = [text for called in source.functions.get(node.func.id, ()) for text in self.returns(called, source, seen)]
            if found and all(GAP not in text or len(_WORD.findall(text)) > 1 for text in found):
                return _once(found)
        return [GAP]

    def returns(self, function, source, seen=frozenset()) -> list[str]:
        """What a function can give, as a text or as the items of a list."""
        found = []
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                found += self.elements(node.value, source, function) or self.texts(node.value, source, function, seen)
        return found

    def _values(self, node, source, function, seen) -> list[str]:
        """The phrases in a dict."""
        if isinstance(node, ast.Name):
            inside = [n.value for n in ast.walk(function) if isinstance(n, ast.Assign)
                      and node.id in _names_of(n.targets[0])] if function else []  # fmt: skip
            node = next(iter(inside), source.constants.get(node.id))
        if not isinstance(node, ast.Dict):
            return []
        return _once([text for value in node.values for text in self.texts(value, source, function, seen)])


def _given(target, value, name: str) -> list:
    """What an assignment gives a name; [None] for something that cannot be read."""
    if isinstance(target, ast.Name):
        return [value] if target.id == name else []
    if isinstance(target, ast.Tuple) and name in _names_of(target):
        if isinstance(value, ast.IfExp):
            return [*_given(target, value.body, name), *_given(target, value.orelse, name)]
        if isinstance(value, ast.Tuple) and len(value.elts) == len(target.elts):
            return [part for at, part in zip(target.elts, value.elts, strict=True) if getattr(at, "id", "") == name]
        return [None]
    return []


def _names_of(target) -> set[str]:
    return {node.id for node in ast.walk(target) if isinstance(node, ast.Name)}


def _once(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))
