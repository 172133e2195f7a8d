"""Adapters of rows of one token each, on a CPU, by code compiled for this processor."""

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_log = logging.getLogger(__name__)
_TARGETS = 3
_CHECK_INPUTS, _CHECK_RANKS, _CHECK_WIDTHS = 38, (8, 24), (40, 8)

_pointer, _integer = ctypes.c_void_p, ctypes.c_int64


class SiteStruct(ctypes.Structure):
    """A site as the code reads it."""

    _fields_ = [
        ("site", _integer),
        ("inputs", _integer),
        ("starts", _integer * _TARGETS),
        ("widths", _integer * _TARGETS),
    ]


class _Adapters(ctypes.Structure):
    _fields_ = [("pool", _pointer), ("offsets", _pointer), ("firsts", _pointer)]


@dataclass(frozen=True, slots=True)
class Site:
    """Inputs, and where each target's columns begin and how many there are; ``widths`` empty where nothing attaches."""

    inputs: int
    starts: tuple[int, ...]
    widths: tuple[int, ...]


Tables = tuple[NDArray[np.int64], NDArray[np.int32]]
"""An adapter's offsets in the pool and first ranks, ``[sites, 4]`` each."""


class AdapterRows:
    """A step's rows with the tables of each one's adapter, None for rows of the base; ``pool`` fp32.

    Good as long as those adapters lie where the tables say.
    """

    __slots__ = ("_kept", "_struct", "address", "rows", "sites")

    def __init__(self, pool: Tensor, sites: tuple[Site, ...], tables: Sequence[Tables | None]) -> None:
        self.sites = sites
        self.rows = len(tables)
        offsets, firsts = (
            np.array([0 if one is None else one[part].ctypes.data for one in tables], dtype=np.uint64)
            for part in (0, 1)
        )
        self._struct = _Adapters(pool.data_ptr(), offsets.ctypes.data, firsts.ctypes.data)
        self._kept = (pool, tuple(tables), offsets, firsts)
        self.address = ctypes.addressof(self._struct)


class AdapterKernel:
    """The code; ``share`` is its address."""

    def __init__(self) -> None:
        """Raises ImportError without llvmlite, RuntimeError and OSError where no code can be made here."""
        from kindling_engine.jit.compiling import code_load, processor_here

        self._code = code_load("adapters", processor_here())
        self.share = self._code.address("adapters")
        arguments = [_pointer, _pointer, _pointer, _pointer, _integer, _integer, _integer]
        self._call = ctypes.CFUNCTYPE(None, *arguments)(self.share)

    def add(self, output: Tensor, x: Tensor, adapters: AdapterRows, site: int) -> None:
        """Add every row's share to ``output [n, out]`` in place, from ``x [n, in]``; both fp32 without gaps."""
        struct = site_struct(site, adapters.sites[site])
        self._call(
            ctypes.addressof(struct),
            adapters.address,
            x.data_ptr(),
            output.data_ptr(),
            output.shape[1],
            0,
            adapters.rows,
        )


def site_struct(index: int, site: Site) -> SiteStruct:
    filled = [(*numbers, *(0,) * (_TARGETS - len(numbers))) for numbers in (site.starts, site.widths)]
    return SiteStruct(index, site.inputs, *((_integer * _TARGETS)(*numbers) for numbers in filled))


@lru_cache(maxsize=1)
def adapter_kernel() -> AdapterKernel | None:
    """That of this process; None where there is no code for this processor, or wrong code."""
    try:
        kernel = AdapterKernel()
    except (ImportError, OSError, RuntimeError) as error:
        _log.info("adapters go layer by layer: %s", error)
        return None
    if not _right(kernel):
        _log.warning("compiled adapters are wrong on this processor; they go layer by layer")
        return None
    return kernel


def _right(kernel: AdapterKernel) -> bool:
    """Two targets of different ranks, one row of the base between two with the adapter."""
    random = torch.Generator().manual_seed(0)
    ranks, widths, starts = _CHECK_RANKS, _CHECK_WIDTHS, (0, _CHECK_WIDTHS[0])
    shrink = torch.randn((_CHECK_INPUTS, sum(ranks)), generator=random)
    expands = [
        torch.randn((rank, width), generator=random) for rank, width in zip(ranks, widths, strict=True)
    ]
    pool = torch.cat([one.reshape(-1) for one in (shrink, *expands)])
    begins = [0, shrink.numel(), shrink.numel() + expands[0].numel(), 0]
    tables = np.array([begins], dtype=np.int64), np.array([[0, ranks[0], *(sum(ranks),) * 2]], dtype=np.int32)
    rows = AdapterRows(pool, (Site(_CHECK_INPUTS, starts, widths),), (tables, None, tables))
    x = torch.randn((3, _CHECK_INPUTS), generator=random)
    found = torch.ones((3, sum(widths)))
    kernel.add(found, x, rows, 0)
    halves = (x @ shrink).split(ranks, dim=1)
    wanted = 1 + torch.cat([half @ one for half, one in zip(halves, expands, strict=True)], dim=1)
    wanted[1] = 1
    return torch.allclose(found, wanted, rtol=1e-4, atol=1e-3)
