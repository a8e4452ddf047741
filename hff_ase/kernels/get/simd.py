"""Vectors with a fixed number of lanes, as values in numba functions.

LLVM vectorises loops over channels only while it can prove that arrays do not overlap, and never
across a sum over heads with its exponential. Here a whole row of channels is one value (an LLVM
vector such as <64 x float>), which the compiler splits into the registers that the machine has:
16 lanes with AVX-512, 8 with AVX2, 4 with NEON. Kernels then read like the equations, compile in
little time and keep their sums in registers. LLVM handles vectors well whose lanes are a power of
two in number; others are made of several such parts (48 = 3 x 16).

    row = load(array, i, column, LANES)    # array[i, column : column + LANES]
    row * other + 2.0                      # lane by lane; scalars are spread over the lanes

`LANES` must be a constant where the function is compiled. Lanes are float32 or float64, as the
array is.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from hff_ase.kernels.numba_internals import element_pointer, intrinsic_of

# A product and a sum may become one instruction; nothing else is relaxed.
CONTRACT = ("contract",)

# 2^f for |f| <= 1/2: Taylor coefficients ln(2)^k / k!, k = 0 ... 7; the next one adds 5e-9.
EXP2 = tuple(math.log(2.0) ** k / math.factorial(k) for k in range(8))
LOG2_E = 1.0 / math.log(2.0)


def _intrinsic(function: Callable[..., Any]) -> Any:
    """A function inside numba functions, called there without its first argument; sizes reach it
    as constants."""
    return intrinsic(prefer_literal=True)(function)


class Vector(types.Type):
    """The numba type of `lanes` numbers of type `dtype`: `n_parts` LLVM vectors of `width`."""

    def __init__(self, dtype: types.Float, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        self.width = lanes & -lanes  # the largest power of two that divides it
        self.n_parts = lanes // self.width
        super().__init__(name=f"Vector({dtype}, {lanes})")

    @property
    def element(self) -> ir.Type:
        """The LLVM type of one lane."""
        return ir.FloatType() if self.dtype == types.float32 else ir.DoubleType()

    @property
    def part(self) -> ir.VectorType:
        """The LLVM type of one part."""
        return ir.VectorType(self.element, self.width)

    @property
    def whole(self) -> ir.LiteralStructType:
        """The LLVM type of the value."""
        return ir.LiteralStructType([self.part] * self.n_parts)

    def constant(self, number: float) -> ir.Constant:
        """One part with the same number on all lanes."""
        return ir.Constant(self.part, [ir.Constant(self.element, number)] * self.width)

    def split(self, builder: Any, value: Any) -> list[Any]:
        """The parts of a value."""
        return [builder.extract_value(value, k) for k in range(self.n_parts)]

    def join(self, builder: Any, parts: list[Any]) -> Any:
        """The value made of these parts."""
        value = ir.Constant(self.whole, ir.Undefined)
        for k, part in enumerate(parts):
            value = builder.insert_value(value, part, k)
        return value


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, fe_type.whole)


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    return builder.shuffle_vector(a, b, mask)


def _splat(context: Any, builder: Any, vector: Vector, scalar: Any, kind: Any) -> list[Any]:
    """The parts of a scalar of any numeric type on all lanes."""
    scalar = context.cast(builder, scalar, kind, vector.dtype)
    none = ir.Constant(vector.part, ir.Undefined)
    first = builder.insert_element(none, scalar, ir.Constant(ir.IntType(32), 0))
    return [_shuffle(builder, first, none, [0] * vector.width)] * vector.n_parts


def _sum(builder: Any, terms: list[Any]) -> Any:
    """Sum of LLVM vectors, pairwise."""
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        sums = [builder.fadd(a, b, flags=CONTRACT) for a, b in pairs]
        terms = sums + terms[2 * len(sums) :]
    return terms[0]


def _register_arithmetic(function: Any, instruction: str) -> None:
    """Lane-by-lane arithmetic of two vectors, or of a vector and a scalar on either side."""

    @type_callable(function)
    def resolve(context: Any) -> Any:
        def typer(left: Any, right: Any) -> Any:
            vectors = {a for a in (left, right) if isinstance(a, Vector)}
            fits = all(isinstance(a, (Vector, types.Number)) for a in (left, right))
            return next(iter(vectors)) if fits and len(vectors) == 1 else None

        return typer

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = sig.return_type
        left, right = (
            vector.split(builder, value)
            if isinstance(kind, Vector)
            else _splat(context, builder, vector, value, kind)
            for value, kind in zip(args, sig.args, strict=True)
        )
        apply = getattr(builder, instruction)
        parts = [apply(a, b, flags=CONTRACT) for a, b in zip(left, right, strict=True)]
        return vector.join(builder, parts)

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(function, *pair)(lower)


for _function, _instruction in (
    (operator.add, "fadd"),
    (operator.iadd, "fadd"),
    (operator.sub, "fsub"),
    (operator.isub, "fsub"),
    (operator.mul, "fmul"),
):
    _register_arithmetic(_function, _instruction)


def _pointers(context: Any, builder: Any, vector: Vector, sig: Any, args: Any) -> list[Any]:
    """Pointers to the parts of array[row, column : column + lanes]; the array is C-contiguous,
    indices are not negative. The first three arguments are array, row and column."""
    data = context.make_array(sig.args[0])(context, builder, args[0])
    row, column = (context.cast(builder, args[k], sig.args[k], types.intp) for k in (1, 2))
    out = []
    for k in range(vector.n_parts):
        place = builder.add(column, ir.Constant(column.type, k * vector.width))
        pointer = element_pointer(context, builder, sig.args[0], data, [row, place])
        out.append(builder.bitcast(pointer, vector.part.as_pointer()))
    return out


@_intrinsic
def load(typingctx: Any, array: Any, row: Any, column: Any, lanes: Any) -> Any:
    """array[row, column : column + lanes] of a C-contiguous two-dimensional array."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    vector = Vector(array.dtype, lanes.literal_value)
    align = array.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = _pointers(context, builder, vector, sig, args)
        return vector.join(builder, [builder.load(pointer, align=align) for pointer in pointers])

    return vector(array, row, column, lanes), codegen


@_intrinsic
def store(typingctx: Any, array: Any, row: Any, column: Any, value: Any) -> Any:
    """array[row, column : column + lanes] = value."""
    align = value.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointers = _pointers(context, builder, value, sig, args)
        for pointer, part in zip(pointers, value.split(builder, args[3]), strict=True):
            builder.store(part, pointer, align=align)
        return context.get_dummy_value()

    return types.none(array, row, column, value), codegen


@_intrinsic
def zeros(typingctx: Any, like: Any, lanes: Any) -> Any:
    """Zero on `lanes` lanes, of the type of the elements of the array `like`."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    vector = Vector(like.dtype, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return vector.join(builder, [vector.constant(0.0)] * vector.n_parts)

    return vector(like, lanes), codegen


@_intrinsic
def fold(typingctx: Any, value: Any, lanes: Any) -> Any:
    """Sum of the consecutive groups of `lanes` lanes; `lanes` divides the vector's."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    folded = Vector(value.dtype, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = value.split(builder, args[0])

        def piece(first: int) -> Any:
            # folded.width divides value.width, so that a piece lies within one part
            part, lane = divmod(first, value.width)
            if folded.width == value.width:
                return parts[part]
            chosen = list(range(lane, lane + folded.width))
            return _shuffle(builder, parts[part], parts[part], chosen)

        return folded.join(
            builder,
            [
                _sum(builder, [piece(k) for k in range(first, value.lanes, folded.lanes)])
                for first in range(0, folded.lanes, folded.width)
            ],
        )

    return folded(value, lanes), codegen


@_intrinsic
def repeat(typingctx: Any, value: Any, lanes: Any) -> Any:
    """The vector repeated to `lanes` lanes: the transpose of `fold`."""
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    repeated = Vector(value.dtype, lanes.literal_value)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        small = value.split(builder, args[0])
        pieces = [small[k % value.n_parts] for k in range(repeated.lanes // value.width)]
        width = value.width
        while width < repeated.width:  # put neighbours together until parts have their size
            width *= 2
            pairs = zip(pieces[::2], pieces[1::2], strict=True)
            pieces = [_shuffle(builder, a, b, list(range(width))) for a, b in pairs]
        return repeated.join(builder, pieces)

    return repeated(value, lanes), codegen


@_intrinsic
def total(typingctx: Any, value: Any) -> Any:
    """Sum of all lanes, in an order of the compiler's choice."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        part = _sum(builder, value.split(builder, args[0]))
        name = f"llvm.vector.reduce.fadd.v{value.width}f{value.dtype.bitwidth}"
        kind = ir.FunctionType(value.element, [value.element, value.part])
        function = intrinsic_of(builder, kind, name)
        start = ir.Constant(value.element, 0.0)
        return builder.call(function, [start, part], fastmath=("reassoc", "contract"))

    return value.dtype(value), codegen


def _call(builder: Any, vector: Vector, name: str, *args: Any) -> Any:
    """An LLVM intrinsic that maps parts to a part."""
    kind = ir.FunctionType(vector.part, [vector.part] * len(args))
    name = f"llvm.{name}.v{vector.width}f{vector.dtype.bitwidth}"
    return builder.call(intrinsic_of(builder, kind, name), args)


def _exp2(builder: Any, vector: Vector, x: Any) -> Any:
    """2^x in float32 for |x| <= 126, relative error 1e-7: 2^n by its bits, the rest by series."""
    n = _call(builder, vector, "rint", x)
    f = builder.fsub(x, n)
    series = vector.constant(EXP2[-1])
    for coefficient in EXP2[-2::-1]:
        series = builder.fmul(series, f, flags=CONTRACT)
        series = builder.fadd(series, vector.constant(coefficient), flags=CONTRACT)
    integers = ir.VectorType(ir.IntType(32), vector.width)
    bits = builder.fptosi(n, integers)
    bits = builder.add(bits, ir.Constant(integers, [127] * vector.width))
    bits = builder.shl(bits, ir.Constant(integers, [23] * vector.width))
    return builder.fmul(series, builder.bitcast(bits, vector.part))


def _sigmoid_float32(builder: Any, vector: Vector, x: Any) -> Any:
    y = builder.fmul(x, vector.constant(-LOG2_E))
    # Beyond, the sigmoid is 0 or 1 to 1e-38. minnum and maxnum drop a nan, but silu
    # multiplies by x, which brings it back.
    y = _call(builder, vector, "minnum", y, vector.constant(126.0))
    y = _call(builder, vector, "maxnum", y, vector.constant(-126.0))
    y = _exp2(builder, vector, y)
    one = vector.constant(1.0)
    return builder.fdiv(one, builder.fadd(one, y))


def _sigmoid_float64(builder: Any, vector: Vector, x: Any) -> Any:
    one = vector.constant(1.0)
    y = _call(builder, vector, "exp", builder.fneg(x))
    return builder.fdiv(one, builder.fadd(one, y))


@_intrinsic
def sigmoid(typingctx: Any, value: Any) -> Any:
    """1 / (1 + exp(-x)), absolute error below 1e-7 in float32.

    No compiler vectorises the library's exponential, so float32 has its own; float64, which only
    tests use, calls the library lane by lane.
    """
    single = value.dtype == types.float32
    function: Callable[..., Any] = _sigmoid_float32 if single else _sigmoid_float64

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = value.split(builder, args[0])
        return value.join(builder, [function(builder, value, part) for part in parts])

    return value(value), codegen
