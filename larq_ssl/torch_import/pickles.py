"""Reads the pickles of checkpoints without running anything that they name.

A pickle is a program for a machine with a stack and a memory. Python's own machine calls whatever function
such a program names; this one knows the instructions that build plain values, and of all functions only the
few that PyTorch's tensors and dictionaries need, for which it has code of its own. It stops at everything else.
"""

import pickletools
from collections.abc import Callable, Sized
from typing import Any, Protocol

from larq_ssl.torch_import.tensors import STORAGES, Storage, StoredTensor

_MOST_INSTRUCTIONS = 2_000_000  # a ResNet-50 with its momentum encoder and optimizer takes some 30,000
_MOST_COPIED = 2_000_000  # values handed to functions, which copy them
_LITERALS = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 SHORT_BINSTRING BINSTRING "
    "SHORT_BINBYTES BINBYTES BINBYTES8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_NEW: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset(["PROTO", "FRAME"])
_INERT = frozenset(["argparse.Namespace"])
# Nested tuples have no limit of depth, and Python's hash of them none either.
_KEYS = (str, bytes, int, float, bool, type(None))
# From here on integers share their hashes. Optimizers before PyTorch 1.6 have addresses as keys.
_KEYS_END = 2**61 - 1


class Stream(Protocol):
    """What is needed of an open file; it must not promise more than it holds."""

    def read(self, count: int, /) -> bytes: ...

    def readline(self) -> bytes: ...

    def tell(self) -> int: ...


class RefusedError(ValueError):
    """A file that is not read. Within this package the message goes on after its name; the reader puts it before."""


class _Name:
    """A function or class that a pickle names."""

    def __init__(self, name: str):
        self.name = name


class Inert:
    """Stands for an object of a class that is known and of no use here; nothing of it is kept."""


def load(stream: Stream, persistent: Callable[[Any], Storage] | None = None) -> Any:
    """The value of the pickle that begins where a stream is, which then is right behind it.

    # Arguments
        stream: Open for reading bytes.
        persistent: Finds the storage that a persistent id describes.
    # Returns
        Dictionaries (also for `OrderedDict`), lists, tuples, sets, text, bytes, numbers, `None`, `StoredTensor`,
        `Storage`, and `Inert` for `argparse.Namespace`.
    # Raises
        RefusedError: If the pickle is damaged or names anything else.
    """
    machine = _Machine(persistent)
    try:
        instructions = pickletools.genops(stream)  # type: ignore[arg-type]
        for count, (opcode, argument, _) in enumerate(instructions):
            if opcode.name == "STOP":
                return machine.pop()
            if count == _MOST_INSTRUCTIONS:
                raise RefusedError(f"has a pickle of more than {_MOST_INSTRUCTIONS:,} instructions")
            machine.do(opcode.name, argument)
    except RefusedError:
        raise
    except (ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
        raise RefusedError(f"is damaged: {error}") from error
    raise RefusedError("is damaged: a pickle has no end")


class _Machine:
    def __init__(self, persistent: Callable[[Any], Storage] | None):
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0

    def do(self, name: str, argument: Any) -> None:
        """Runs one instruction, except for the last."""
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _NEW:
            self._stack.append(_NEW[name]())
        elif name in _TUPLES:
            items = [self.pop() for _ in range(_TUPLES[name])]
            self._stack.append(tuple(reversed(items)))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._top()
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in _METHODS:
            _METHODS[name](self, argument)
        elif name not in _IGNORED:
            raise RefusedError(f"has a pickle with the instruction {name}, which no checkpoint needs")

    def pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise IndexError("a pickle takes more from its stack than there is")
        return self._stack.pop()

    def _top(self) -> Any:
        self._stack.append(self.pop())
        return self._stack[-1]

    def _items(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._top()

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._items()))

    def _append(self, _: Any) -> None:
        item = self.pop()
        self._of(list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._items()
        self._of(list).extend(items)

    def _additems(self, _: Any) -> None:
        items = self._items()
        self._of(set).update(_key(item) for item in items)

    def _setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._of(dict)[_key(key)] = value

    def _setitems(self, _: Any) -> None:
        items = self._items()
        self._of(dict).update(_pairs(zip(items[::2], items[1::2], strict=True)))

    def _global(self, name: str) -> None:
        module, _, attribute = name.partition(" ")
        self._stack.append(_known(f"{module}.{attribute}"))

    def _stack_global(self, _: Any) -> None:
        attribute, module = self.pop(), self.pop()
        self._stack.append(_known(f"{module:s}.{attribute:s}"))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or not isinstance(arguments, tuple):
            raise TypeError("a pickle calls what is no function")
        # One container may be an argument of many calls.
        self._copied += len(arguments) + sum(len(value) for value in arguments if isinstance(value, Sized))
        if self._copied > _MOST_COPIED:
            raise RefusedError(f"has a pickle whose calls copy more than {_MOST_COPIED:,} values")
        if function.name in _INERT:
            self._stack.append(Inert())
        elif function.name in _FUNCTIONS:
            self._stack.append(_FUNCTIONS[function.name](*arguments))
        else:
            raise TypeError(f"a pickle calls {function.name}")

    def _build(self, _: Any) -> None:
        """Sets attributes of an object, which here has none: of state dictionaries, versions of their modules."""
        self.pop()
        if not isinstance(self._top(), dict | Inert | StoredTensor):
            raise TypeError("a pickle sets attributes of what has none")

    def _binpersid(self, _: Any) -> None:
        if self._persistent is None:
            raise ValueError("a pickle refers to numbers where there are none")
        self._stack.append(self._persistent(self.pop()))

    def _of(self, kind: type) -> Any:
        if not isinstance(self._top(), kind):
            raise TypeError(f"a pickle adds to a {kind.__name__} that is none")
        return self._top()


_METHODS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "MEMOIZE": _Machine._memoize,
    "TUPLE": _Machine._tuple,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "ADDITEMS": _Machine._additems,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "NEWOBJ": _Machine._reduce,
    "BUILD": _Machine._build,
    "BINPERSID": _Machine._binpersid,
}


def storage_kind(name: Any) -> str:
    """What the storage holds that a persistent id names."""
    if not isinstance(name, _Name) or name.name not in STORAGES:
        raise TypeError("a storage is of no known kind")
    return STORAGES[name.name]


def count(value: Any) -> int:
    """The value, if it is a whole number from 0 on."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError("what should be a number of elements is none")
    return value


def _known(name: str) -> _Name:
    if name not in STORAGES and name not in _INERT and name not in _FUNCTIONS:
        raise RefusedError(
            f"names {name[:100]!r}, which is no part of tensors and plain values: nothing that a file names is run "
            "here (if you trust the file, save its state_dict alone with PyTorch)"
        )
    return _Name(name)


def _key(value: Any) -> Any:
    if not isinstance(value, _KEYS):
        raise TypeError("a dictionary or set has a key that is neither text nor number")
    if isinstance(value, int) and abs(value) >= _KEYS_END:
        raise ValueError("a dictionary or set has a key that is too large a number")
    return value


def _pairs(pairs: Any) -> dict[Any, Any]:
    return {_key(key): value for key, value in pairs}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise TypeError("a tensor is described wrongly")
    return StoredTensor(storage, count(offset), tuple(map(count, shape)), tuple(map(count, strides)))


def _parameter(data: Any, *_: Any) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise TypeError("a parameter holds no tensor")
    return data


def _size(lengths: Any) -> tuple[int, ...]:
    return tuple(map(count, lengths))


def _set(items: Any = ()) -> set[Any]:
    return {_key(item) for item in items}


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.Size": _size,
    "collections.OrderedDict": lambda pairs=(): _pairs(pairs),
    "builtins.set": _set,
    "__builtin__.set": _set,
}
