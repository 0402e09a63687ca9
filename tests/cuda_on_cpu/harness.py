"""Calls the kernels of csrc/cuda on the host, each build (see builds.py) in a process of its own.

What stops a kernel raises KernelError, with the sanitizer's words where it was a sanitizer.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cuda_on_cpu.builds import CSRC, HERE, RUNTIMES, MissingTool, build, compiler

from initfast.ops import checks

DTYPES = tuple(checks.DTYPES.values())  # in the order of initfast::Dtype
ELEMENT_BYTES = {"float32": 4, "float64": 8, "bfloat16": 2, "float16": 2}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=66:history_size=0",
    "UBSAN_OPTIONS": "print_stacktrace=0",
}


class KernelError(Exception):
    """A kernel was stopped: by the host runtime, or by a sanitizer."""


class Device:
    """The kernels of one build, as functions of numpy arrays.

    Floating-point arrays stand for any dtype: they are rounded to it on the way in, and come back
    as float64, exactly.
    """

    def __init__(self, name: str, sources: Path = CSRC) -> None:
        self.name = name
        self._module = build(name, sources)
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **OPTIONS}
        if self.name in RUNTIMES:
            library = f"libclang_rt.{RUNTIMES[self.name]}-x86_64.so"
            found = subprocess.run(
                [compiler(self.name), f"-print-file-name={library}"], capture_output=True, text=True
            ).stdout.strip()
            if not Path(found).is_file():
                raise MissingTool(f"{library} is not installed (libclang-rt-19-dev)")
            environment["LD_PRELOAD"] = found
        self._log = tempfile.TemporaryFile()
        return subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), str(self._module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of bindings.cpp in the build's process."""
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin and process.stdout
        try:
            pickle.dump((function, arguments), process.stdin)
            process.stdin.flush()
            error, result = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError):
            process.wait()
            self._process = None
            self._log.seek(0)
            raise KernelError(self._log.read().decode(errors="replace")) from None
        if isinstance(error, RuntimeError):
            raise KernelError(str(error)) from None
        if error:  # a call that no kernel has seen
            raise error
        return result

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def schedule(self, seed: int, resident: int) -> None:
        """Choose the order of threads (0: in sequence) and the number of interleaved blocks."""
        self.call("schedule", seed, resident)

    def take_out(self, number: int) -> None:
        """Skip one ordering statement of sources that test_mutants.py numbered; -1: none."""
        self.call("take_out", number)

    def moments(
        self, x: np.ndarray, dtype: str = "float32", *, strided: bool = False, misalign: int = 0
    ) -> np.ndarray:
        """The row of moments of x; strided: as it lies, through its strides."""
        memory, sizes, strides = _as_memory(x, dtype, strided)
        arguments = (memory, x.size, sizes, strides, misalign * ELEMENT_BYTES[dtype])
        return _rows(self.call("moments", DTYPES.index(dtype), *arguments))[0]

    def unit_moments(self, x: np.ndarray, dtype: str, misalign: int = 0) -> np.ndarray:
        """The four rows of the units of x [outer, units, inner]."""
        shift = misalign * ELEMENT_BYTES[dtype]
        data = self.call("unit_moments", DTYPES.index(dtype), store(x, dtype), *x.shape, shift)
        return np.frombuffer(data, np.float64).reshape(4, -1)

    def act(
        self,
        z: np.ndarray,
        act: str,
        parameters: Sequence[float],
        dtype: str = "float32",
        *,
        units: int,
        inner: int = 1,
        bias: np.ndarray | None = None,
        keep_z: bool = False,
        strided: bool = False,
        misalign: int = 0,
        in_place: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """y, z + bias (empty unless kept), two rows of moments, live units."""
        memory, sizes, strides = _as_memory(z, dtype, strided)
        y, z_out, rows, live = self.call(
            *("act", DTYPES.index(dtype), act, *parameters, memory, z.size, sizes, strides),
            *(None if bias is None else store(bias, dtype), keep_z, units, inner),
            *(misalign * ELEMENT_BYTES[dtype], in_place),
        )
        return widen(y, dtype), widen(z_out, dtype), _rows(rows), np.frombuffer(live, bool)

    def act_backward(
        self,
        grad_y: np.ndarray,
        z: np.ndarray,
        act: str,
        parameters: Sequence[float],
        dtype: str = "float32",
        *,
        misalign: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """grad_z, two rows of moments."""
        grad_z, rows = self.call(
            *("act_backward", DTYPES.index(dtype), act, *parameters),
            *(store(grad_y, dtype), store(z, dtype), z.size, misalign * ELEMENT_BYTES[dtype]),
        )
        return widen(grad_z, dtype), _rows(rows)

    def linear_act(
        self,
        x: np.ndarray,
        weight: np.ndarray,
        bias: np.ndarray | None,
        act: str = "identity",
        parameters: Sequence[float] = (0.0, 0.0),
        dtype: str = "float32",
        *,
        keep_z: bool = True,
        padding: int = 0,
        misalign: int = 0,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """y, z, two rows of moments, live units; padding: numbers between rows of x and weight."""
        (rows, depth), cols = x.shape, weight.shape[0]
        wide_x, wide_weight = _pad(x, padding), _pad(weight, padding)
        y, z, moments, live = self.call(
            *("linear_act", DTYPES.index(dtype), act, *parameters),
            *(store(wide_x, dtype), store(wide_weight, dtype)),
            *(None if bias is None else store(bias, dtype), keep_z, rows, cols, depth),
            *(depth + padding, depth + padding, misalign * ELEMENT_BYTES[dtype]),
        )
        shape = (rows, cols)
        z = widen(z, dtype).reshape(shape) if keep_z else None
        return widen(y, dtype).reshape(shape), z, _rows(moments), np.frombuffer(live, bool)

    def sample(
        self, out: bytes, dtype: str, shape: str, table: bytes, affine: Sequence[float], key: int,
        offset: int, dims: Sequence[tuple[int, int, int]], misalign: int = 0,
    ) -> bytes:  # fmt: skip
        """The memory `out` after sampling; dims: size, stride in memory, stride in the stream."""
        return self.call(
            *("sample", DTYPES.index(dtype), out, shape, table, tuple(affine), key, offset),
            *(list(dims), misalign * ELEMENT_BYTES[dtype]),
        )

    def zero_rows(
        self, out: bytes, dtype: str, shape: Sequence[int], strides: Sequence[int], count: int,
        key: int, place: Sequence[int],
    ) -> bytes:  # fmt: skip
        """The memory `out` after zeroing; place: rows of the whole, first row and column of it."""
        numbers = (*shape, *strides, count, key, *place)
        return self.call("zero_rows", DTYPES.index(dtype), out, *numbers)

    def bug(self, name: str, injected: bool) -> np.ndarray:
        """The two results of a kernel of bugs.cpp."""
        return np.frombuffer(self.call("bug", name, injected), np.float32)


def _pad(x: np.ndarray, padding: int) -> np.ndarray:
    """x with padding NaN after each row but the last."""
    wide = np.full((x.shape[0], x.shape[1] + padding), np.nan)
    wide[:, : x.shape[1]] = x
    return wide.reshape(-1)[: wide.size - padding]


def _rows(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.float64).reshape(-1, 12)


def _as_memory(x: np.ndarray, dtype: str, strided: bool) -> tuple[bytes, list[int], list[int]]:
    """The bytes that x covers, its sizes and strides; no sizes where it is read in one piece."""
    if not strided:
        return store(x, dtype), [], []
    assert x.base is not None and x.dtype == np.float64, "a view of float64 numbers"
    strides = [s // x.itemsize for s in x.strides]
    extent = 1 + sum((n - 1) * s for n, s in zip(x.shape, strides, strict=True))
    covered = np.lib.stride_tricks.as_strided(x, (extent,), (x.itemsize,))
    return store(covered, dtype), list(x.shape), strides


# ---- dtypes ----


def store(x: np.ndarray, dtype: str) -> bytes:
    """x rounded to the dtype, nearest even, as bytes."""
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return np.ascontiguousarray(x).astype(dtype).tobytes()
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((bits.astype(np.uint64) + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded).astype(np.uint16).tobytes()


def widen(data: bytes, dtype: str) -> np.ndarray:
    """The numbers of a dtype as float64."""
    if dtype != "bfloat16":
        return np.frombuffer(data, dtype).astype(np.float64)
    bits = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
    return bits.view(np.float32).astype(np.float64)


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """x as the dtype holds it."""
    return widen(store(x, dtype), dtype).reshape(x.shape)
