"""Config files of MMPose 0.x (mmcv 1.x), read as data: nothing in them is run.

Such a file is Python that assigns names. Read are literals, names assigned before, `dict(...)`, `list(range(...))`,
subscripts, f-strings, arithmetic, `_base_` files and `{{_base_.name}}`; whatever else stands there is refused.
"""
from __future__ import annotations

import ast
import operator
import re
from pathlib import Path
from typing import Any

from src.common.errors import InputError, first_line

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
             ast.FloorDiv: operator.floordiv, ast.USub: operator.neg}
LONGEST = 10 ** 6  # entries of a list
DELETE = '_delete_'


def read_config(file: Path) -> dict[str, Any]:
    """Return the names a config file assigns, merged into those of its `_base_` files, as mmcv 1.x does it.

    Raises:
        InputError: a file is missing or no Python, or the first expression that is no data, with file and line.
    """
    return _Reader(file, ()).names


class _Reader:
    """One file; `names` are those it assigns, and its bases'."""

    def __init__(self, file: Path, children: tuple[Path, ...]) -> None:
        self.file, self.children = file, children
        self.base: dict[str, Any] = {}
        self.names: dict[str, Any] = {}
        if file.suffix != '.py':
            raise InputError(f'{file}: no config file of MMPose; give a .py file')
        if not file.is_file():
            raise InputError(f'{file}: no such file; check the path of the config file')
        try:
            for statement in ast.parse(file.read_bytes()).body:
                self._read_statement(statement)
        except OSError as error:
            raise InputError(f'{file}: cannot be read ({error.strerror}); give a config file of MMPose') from error
        except InputError:
            raise
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InputError(f'{file}: no Python file ({first_line(error)}); give a config file of MMPose') from error
        self.names.pop('_deprecation_', None)
        self.names = self._merge(self.names, self.base)

    def _read_statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return  # a text that says something about the file
        if not isinstance(statement, ast.Assign) or not all(isinstance(to, ast.Name) for to in statement.targets):
            raise self._refusal(statement, 'is no assignment of a name; a config file is read as data, so write its '
                                           'result out')
        value = self._evaluate(statement.value)
        for target in statement.targets:
            if target.id == '_base_':
                self._read_bases(value if isinstance(value, list) else [value])
            elif not target.id.startswith('__'):
                self.names[target.id] = value

    def _read_bases(self, bases: list[Any]) -> None:
        for base in bases:
            path = self.file.parent / str(base)
            if not path.is_file():
                raise InputError(f'{self.file}: _base_ {base!r}: no such file {path}; keep config files where they '
                                 "stand in MMPose's folder configs")
            family = (*self.children, self.file.resolve())
            if path.resolve() in family:
                raise InputError(f'{self.file}: _base_ {base!r}: the file is its own base; remove it there')
            found = _Reader(path, family).names
            twice = sorted(found.keys() & self.base.keys())
            if twice:
                raise InputError(f'{path}: {twice[0]} stands in another _base_ of {self.file} too; keep one of them')
            self.base.update(found)

    def _merge(self, names: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
        """Return `base` with dicts merged entry by entry and all other values replaced."""
        merged = dict(base)
        for key, value in names.items():
            if isinstance(value, dict) and key in base:
                kept = {name: entry for name, entry in value.items() if name != DELETE}
                if not value.get(DELETE) and not isinstance(base[key], dict):
                    raise InputError(f'{self.file}: {key} is a dict, and none in its _base_; add {DELETE}=True to it')
                merged[key] = kept if value.get(DELETE) else self._merge(kept, base[key])
            else:
                merged[key] = value
        return merged

    def _evaluate(self, node: ast.expr) -> Any:
        """Return the value of an expression."""
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and re.search(r'\{\{\s*(_base_|file\w+)', node.value):
                raise self._refusal(node, 'is a placeholder in a text; write its value out')
            return node.value
        if isinstance(node, ast.Name):
            if node.id not in self.names:
                raise self._refusal(node, 'is assigned nowhere before; assign it in this file')
            return self.names[node.id]
        if isinstance(node, (ast.List, ast.Tuple)):
            return (list if isinstance(node, ast.List) else tuple)([self._evaluate(item) for item in node.elts])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node, node.func.id)
        if isinstance(node, ast.JoinedStr):
            return ''.join(map(self._text, node.values))
        if isinstance(node, ast.Set):
            return self._base_value(node)
        return self._compute(node)

    def _compute(self, node: ast.expr) -> Any:
        """Return the value of an expression that may have none."""
        try:
            if isinstance(node, ast.Dict) and None not in node.keys:
                return {self._evaluate(key): self._evaluate(value) for key, value in zip(node.keys, node.values)}
            if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
                return self._evaluate(node.value)[self._evaluate(node.slice)]
            if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
                return OPERATORS[type(node.op)](self._evaluate(node.operand))
            if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
                values = self._evaluate(node.left), self._evaluate(node.right)
                lengths = [len(value) if isinstance(value, (str, list, tuple)) else value for value in values]
                if lengths == list(values) or not isinstance(node.op, ast.Mult) or lengths[0] * lengths[1] <= LONGEST:
                    return OPERATORS[type(node.op)](*values)
        except InputError:
            raise
        except (ArithmeticError, LookupError, TypeError) as error:
            raise self._refusal(node, f'has no value ({type(error).__name__}: {error}); correct it') from error
        raise self._refusal(node, 'is not read: a config file is data; write its value out')

    def _call(self, node: ast.Call, name: str) -> Any:
        """Return the value of `dict(key=value)` or `list(range(...))`."""
        if name == 'dict' and not node.args and all(word.arg for word in node.keywords):
            return {word.arg: self._evaluate(word.value) for word in node.keywords}
        inner = node.args[0] if name == 'list' and len(node.args) == 1 and not node.keywords else None
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) == 'range' and not inner.keywords:
            bounds = [self._evaluate(bound) for bound in inner.args]
            if all(type(bound) is int and abs(bound) <= LONGEST for bound in bounds):
                try:
                    return list(range(*bounds))
                except (TypeError, ValueError) as error:
                    raise self._refusal(node, f'has no value ({error}); correct it') from error
        raise self._refusal(node, 'is not read: of calls only dict(key=value) and list(range(...)) are; write its '
                                  'value out')

    def _text(self, part: ast.expr) -> str:
        """Return a part of an f-string."""
        if isinstance(part, ast.FormattedValue):
            if part.conversion != -1 or part.format_spec:
                raise self._refusal(part.value, 'has a format in a text, which is not read; write the text out')
            return str(self._evaluate(part.value))
        return part.value

    def _base_value(self, node: ast.Set) -> Any:
        """Return the value of `{{_base_.name}}`, which is a set in a set to Python."""
        text = ast.unparse(node)
        found = re.fullmatch(r'\{\{_base_((\.\w+)+)\}\}', text)
        if not found:
            raise self._refusal(node, 'is not read: a config file is data; write its value out')
        value: Any = self.base
        for key in found[1][1:].split('.'):
            if not isinstance(value, dict) or key not in value:
                raise self._refusal(node, f'has no value: no {key!r} in a _base_ named before; correct it')
            value = value[key]
        return value

    def _refusal(self, node: ast.AST, reason: str) -> InputError:
        text = ' '.join(ast.unparse(node).split())
        return InputError(f'{self.file}: line {node.lineno}: {text[:77] + "..." * (len(text) > 77)} {reason}')
