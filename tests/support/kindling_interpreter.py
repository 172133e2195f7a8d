"""Triton's interpreter, which remembers what the built-in functions of its language are called.

It looks through the whole language for them at each launch, and at each call of a function inside a kernel: a quarter
of its time. Which they are does not change.
"""

from functools import cache
from typing import Any

import triton.language as tl
from triton.runtime import interpreter

PACKAGES = (tl, tl.core, tl.math, tl.tensor, tl.core.tensor_descriptor_base)


@cache
def builtin_names(package: Any) -> tuple[str, ...]:
    return tuple(name for name in dir(package) if tl.core.is_builtin(getattr(package, name, None)))


def builtins_patch(package: Any, builder: Any, scope: Any) -> None:
    """As the interpreter's own: each built-in function that is none of the interpreter's yet becomes one."""
    for name in builtin_names(package):
        member = getattr(package, name)
        if tl.core.is_builtin(member):
            interpreter._patch_attr(package, name, member, builder, scope)


def interpreter_remember() -> None:
    """To be called before the first launch, while all of them are still themselves."""
    for package in PACKAGES:
        builtin_names(package)
    interpreter._patch_builtin = builtins_patch
