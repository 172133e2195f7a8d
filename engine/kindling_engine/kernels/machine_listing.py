"""A listing of machine code, as ``nvdisasm`` makes it, and which of its loads wait for which."""

import re
from dataclasses import dataclass

_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?(U?P\w+)\s+)?([A-Z][\w.]*)\s*([^;]*);")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_REGISTER = re.compile(r"\b(U?R|U?P)(\d+)\b(\.64)?")
_BITS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}
_JUMPS = ("BRA", "EXIT")


@dataclass(frozen=True, slots=True)
class Instruction:
    """``guard``: the predicate under which it runs, if any."""

    guard: str | None
    name: str
    operands: str

    @property
    def kind(self) -> str:
        """The name without what specifies it further: LDG a load of global memory, LDGSTS one into shared memory."""
        return self.name.split(".")[0]

    @property
    def bytes_each(self) -> int:
        """What a load or store moves for each thread."""
        return next((bits for part in self.name.split(".") if (bits := _BITS.get(part))), 32) // 8


def instructions_of(listing: str) -> tuple[list[Instruction], dict[str, int]]:
    """The instructions of a listing, and at which of them each label stands."""
    found: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in listing.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(found)
        elif one := _INSTRUCTION.match(line):
            found.append(Instruction(*one.groups()))
    return found, labels


def loads_before(found: list[Instruction], at: int) -> int:
    """The longest row of loads of global memory, each waiting for the one before, for which instruction ``at`` waits.

    In the order of the listing: what a loop leaves for its next iteration is not seen, and a branch makes all that is
    behind it wait for what decided about it.
    """
    waits: dict[str, int] = {}
    shared = branch = 0
    for one in found[: at + 1]:
        guard = waits.get(one.guard or "", 0)
        if one.kind in _JUMPS:
            branch = max(branch, guard if one.guard else 0)
            continue
        parts = one.operands.split(",")
        stores = one.kind in ("STG", "STS", "STSM", "LDGSTS", "BAR")
        sources = {name for part in parts[0 if stores else 1 :] for name in _registers(part)}
        waited = max([guard, *(waits.get(name, 0) for name in sources)])
        if one.kind in ("LDG", "LDGSTS"):
            waited = max(waited, branch)
        if one is found[at]:
            return waited
        if one.kind in ("STS", "STSM"):
            shared = max(shared, waited)
        elif one.kind in ("LDS", "LDSM"):
            waited = max(waited, shared)
        elif one.kind == "LDG":
            waited += 1
        if not stores:
            for name in _written(one, parts):
                waits[name] = max(waited, waits.get(name, 0)) if one.guard else waited
    return 0


def _registers(operand: str) -> set[str]:
    """Those that an operand names; an address of 64 bits takes two."""
    names = set()
    for kind, number, pair in _REGISTER.findall(operand):
        names.add(kind + number)
        if pair:
            names.add(f"{kind}{int(number) + 1}")
    return names


def _written(one: Instruction, parts: list[str]) -> set[str]:
    count = 2 if "WIDE" in one.name or one.kind == "CS2R" else max(1, one.bytes_each // 4)
    names = set()
    for operand in parts[:2] if "SETP" in one.name or one.kind in ("LOP3", "PLOP3") else parts[:1]:
        for kind, number, _ in _REGISTER.findall(operand):
            wide = count if kind.endswith("R") and operand is parts[0] else 1
            names |= {f"{kind}{int(number) + more}" for more in range(wide)}
    return names
