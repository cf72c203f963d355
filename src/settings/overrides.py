"""Values of settings from the command line, from JSON and from Python, put in their places by dotted keys."""
from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from math import isfinite
from typing import Any, get_args

from src.common.errors import InputError, nearest
from src.mmpose.transforms import TRANSFORMS
from src.settings.table import SETTINGS, Setting


def pairs(words: list[str], options: Iterable[str]) -> dict[str, str]:
    """Return `--a.b value` and `--a.b=value` words as a dict.

    Args:
        words: of the command line.
        options: the program's own, for the error message.

    Raises:
        InputError: a word that is neither, or an option without a value.
    """
    found, words = {}, list(words)
    while words:
        word = words.pop(0)
        key, equals, value = word.partition('=')
        if not key.startswith('--') or '.' not in key:
            raise InputError(f'unknown option {word!r}; {nearest(key, options)}')
        if not equals:
            if not words:
                raise InputError(f'{key}: a value is missing')
            value = words.pop(0)
        found[key[2:]] = value
    return found


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model configuration as one dict with keys like `train.epochs`; pipelines stay lists."""
    flat = {}
    for section, entries in config.items():
        flat.update({f'{section}.{key}': value for key, value in entries.items()} if isinstance(entries, dict)
                    else {section: entries})
    return flat


def apply(settings: dict[str, Any], layer: Mapping[str, Any], origin: str, *, text: bool = False) -> None:
    """Set entries of `settings`, in place.

    Args:
        settings: nested dicts, and pipelines as lists of dicts.
        layer: values by dotted key; in a pipeline, the second part is the type of a transform. A function makes the
            value of the one there, or, where the pipeline has no such transform, is left out.
        origin: beginning of an error message: '--' or the file that holds the layer.
        text: whether the values are text from the command line.

    Raises:
        InputError: no such entry, or a value of another type than the entry's.
    """
    for key, value in layer.items():
        if callable(value) and _lacks_step(settings, key):
            continue
        node, name = _find(settings, key, origin)
        value = value(node[name]) if callable(value) else value
        setting = SETTINGS.get(key) or _infer(node[name])
        try:
            found = convert(value, setting) if text else value
            node[name] = None if found is None and setting.optional else accept(found, setting.kind)
        except (ValueError, OverflowError, SyntaxError) as error:
            raise InputError(f'{origin}{key} {value!r}: expected {_describe(setting, node[name])}') from error


def _lacks_step(settings: dict[str, Any], key: str) -> bool:
    pipeline, step, *_ = key.split('.')
    return step in TRANSFORMS and all(given['type'] != step for given in settings[pipeline])


def _find(settings: dict[str, Any], key: str, origin: str) -> tuple[dict[str, Any], str]:
    """Return the dict that holds the entry, and its name there."""
    *path, name = key.split('.')
    node: Any = settings
    for part in path:
        node = _step_into(node, part, key, origin)[part]
    return _step_into(node, name, key, origin), name


def _step_into(node: Any, part: str, key: str, origin: str) -> dict[str, Any]:
    if isinstance(node, list):
        node = {step['type']: step for step in node}
        if part in node:
            fill_defaults(node[part])
    if not isinstance(node, dict):
        raise InputError(f'{origin}{key}: {node!r} has no entries such as {part!r}')
    if part not in node:
        raise InputError(f'{origin}{key}: no entry {part!r}; {nearest(part, node)}')
    return node


def fill_defaults(step: dict[str, Any]) -> None:
    """Add to a step of a pipeline, in place, the arguments that it omits; ints for floats become floats."""
    for argument in fields(TRANSFORMS[step['type']]) if step['type'] in TRANSFORMS else ():
        if argument.default is not MISSING:
            value = step.get(argument.name, argument.default)
            step[argument.name] = float(value) if argument.type == 'float' else value


def _infer(current: Any) -> Setting:
    """Return what an entry outside the table (in a pipeline or in data.info) takes, by its present value."""
    if not isinstance(current, (tuple, list)):
        return Setting(object if current is None else type(current), '', optional=current is None)
    kinds = {type(entry) for entry in current}
    item = str if kinds == {str} else float if kinds and kinds <= {int, float} else object
    return Setting(tuple[item, ...], '')


def convert(text: str, setting: Setting) -> Any:
    """Return the Python value that text from the command line stands for.

    Raises:
        ValueError, SyntaxError: it can't be read as the setting's type.
    """
    if setting.optional and text.lower() == 'none':
        return None
    if setting.kind is bool:
        return {'true': True, '1': True, 'false': False, '0': False}.get(text.lower(), text)
    if setting.kind is int:
        return int(text) if text.lstrip('+-').isdecimal() else float(text)
    if setting.kind is float:
        return float(text)
    if setting.kind == tuple[str, ...]:
        return [word.strip(' "\'') for word in text.strip('()[] ').split(',')]
    if get_args(setting.kind):
        values = ast.literal_eval(f'[{text}]')
        return values[0] if len(values) == 1 and isinstance(values[0], (tuple, list)) else values
    return text


def accept(value: Any, kind: Any) -> Any:
    """Return a value in its setting's type: lists as tuples, ints as floats, whole floats as ints.

    Raises:
        ValueError: it is of another type, or not finite.
    """
    value, item = restore(value), get_args(kind)
    if item:
        if isinstance(value, tuple):
            accepted = tuple(accept(entry, item[0]) for entry in value)
            return accepted if item[0] is int else value
    elif kind in (int, float):
        if isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value) and kind(value) == value:
            return kind(value)
    elif kind is not dict and isinstance(value, kind):
        return value
    raise ValueError(value)


def restore(value: Any) -> Any:
    """Return what was a tuple before it was JSON; lists of dicts (pipelines) are lists there too."""
    if isinstance(value, dict):
        return {key: restore(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return (list if value and isinstance(value[0], dict) else tuple)(map(restore, value))
    return value


def _describe(setting: Setting, current: Any) -> str:
    """Return the words of an error message for what an entry takes in place of its present value."""
    if setting.kind is dict:
        return f'entries of its own ({", ".join(current)})'
    names = {bool: 'true or false', tuple[int, ...]: 'whole numbers with commas', tuple[str, ...]: 'words with commas'}
    name = names.get(setting.kind) or ('numbers with commas' if get_args(setting.kind) else setting.kind.__name__)
    return f'{name}{" or none" * setting.optional}, like {current!r}'
