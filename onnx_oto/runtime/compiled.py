"""What compiled functions need of the machine: memory by its address, atomic words, the C library.

How functions are compiled, by numba, is said here too.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import cfunc, config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD, _BYTE = ir.IntType(64), ir.IntType(8)
_POINTER = ir.PointerType(_BYTE)


def native(*signature: str, callback: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function, to run without the interpreter's lock, and keeps it on disk.

    callback: to be called by native code; it needs a signature. Without a place to keep it, it is compiled every time.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        make = partial(cfunc, *signature) if callback else partial(njit, *signature, nogil=True, **options)
        with _kept_by_source(Path(inspect.getfile(function))):
            try:
                return make(cache=True)(function)
            except RuntimeError:
                return make()(function)

    return decorate


@contextlib.contextmanager
def _kept_by_source(file: Path) -> Iterator[None]:
    """Have numba keep what is compiled under a name made of all sources that may be in it, as long as the block.

    Of itself it looks at the file of a function alone, and would take an old one where another file has changed whose
    functions are compiled into it. Where nothing can be written beside this file, it keeps them where it likes.
    """
    before = config.CACHE_DIR
    place = Path(before) if before else Path(__file__).parent / "__pycache__"
    if before or os.access(Path(__file__).parent, os.W_OK):
        config.CACHE_DIR = str(place / f"{_NAME}{_digest(file)}")
    try:
        yield
    finally:
        config.CACHE_DIR = before


_NAME = "onnx-oto-"


@cache
def _digest(file: Path) -> str:
    """Return the digest of a file with functions, and of all that their functions may be compiled from."""
    hashed = hashlib.sha256()
    for each in (file, *sorted(Path(__file__).parent.glob("*.py"))):
        with contextlib.suppress(OSError):
            hashed.update(each.read_bytes())
    return hashed.hexdigest()[:16]


@intrinsic
def pointer(context: Any, address: Any) -> Any:
    """An address as something that `numba.carray` takes."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], _POINTER)

    return types.voidptr(types.int64), generate


@intrinsic
def load(context: Any, address: Any) -> Any:
    """The int64 at an address, read in one piece; what was written before it was written is seen afterwards."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.PointerType(_WORD))
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def store(context: Any, address: Any, value: Any) -> Any:
    """Write an int64 to an address in one piece, after everything that was written before."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        place = builder.inttoptr(arguments[0], ir.PointerType(_WORD))
        builder.store_atomic(arguments[1], place, "release", 8)
        return _nothing()

    return types.void(types.int64, types.int64), generate


def _nothing() -> Any:
    """Return what stands for None in compiled code."""
    return ir.Constant(_POINTER, None)


@intrinsic
def call(context: Any, function: Any, argument: Any) -> Any:
    """Call the C function `void (void *)` at an address."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_WORD])
        builder.call(builder.inttoptr(arguments[0], ir.PointerType(kind)), [arguments[1]])
        return _nothing()

    return types.void(types.int64, types.int64), generate


@intrinsic
def ask_2(context: Any, function: Any, first: Any, second: Any) -> Any:
    """Return what the C function `intptr_t (intptr_t, intptr_t)` at an address returns."""
    return types.int64(types.int64, types.int64, types.int64), _ask


@intrinsic
def ask_3(context: Any, function: Any, first: Any, second: Any, third: Any) -> Any:
    """Return what such a function of three words returns."""
    return types.int64(*[types.int64] * 4), _ask


@intrinsic
def ask_5(context: Any, function: Any, first: Any, second: Any, third: Any, fourth: Any, fifth: Any) -> Any:
    """Return what such a function of five words returns."""
    return types.int64(*[types.int64] * 6), _ask


def _ask(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
    function, *given = arguments
    kind = ir.FunctionType(_WORD, [_WORD] * len(given))
    return builder.call(builder.inttoptr(function, ir.PointerType(kind)), given)


@intrinsic
def allocate(context: Any, size: Any) -> Any:
    """`malloc`: the address of so many bytes."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_WORD, [_WORD])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "malloc"), arguments)

    return types.int64(types.int64), generate


@intrinsic
def address_of_free(context: Any) -> Any:
    """The address of `free`."""

    def generate(_: Any, builder: Any, __: Any, ___: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_POINTER])
        function = cgutils.get_or_insert_function(builder.module, kind, "free")
        return builder.ptrtoint(function, _WORD)

    return types.int64(), generate


@intrinsic
def copy(context: Any, target: Any, source: Any, size: Any) -> Any:
    """`memcpy`: so many bytes from one address to another."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_WORD, [_WORD, _WORD, _WORD])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "memcpy"), arguments)
        return _nothing()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def clear(context: Any, target: Any, size: Any) -> Any:
    """`memset`: zeros in so many bytes."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_WORD, [_WORD, ir.IntType(32), _WORD])
        function = cgutils.get_or_insert_function(builder.module, kind, "memset")
        builder.call(function, [arguments[0], ir.Constant(ir.IntType(32), 0), arguments[1]])
        return _nothing()

    return types.void(types.int64, types.int64), generate


@intrinsic
def give_way(context: Any) -> Any:
    """`sched_yield`: let another thread run on this core, if one waits for it. Nothing where there is no such call."""

    def generate(_: Any, builder: Any, __: Any, ___: Any) -> Any:
        if os.name != "posix":
            return ir.Constant(ir.IntType(32), 0)
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])

    return types.int32(), generate
