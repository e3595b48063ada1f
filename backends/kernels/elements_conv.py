"""Convolution, an element at a time; and how its axes are those of a matrix product.

    out[n, o, p] = sum over c, k of lhs[n, c, stride p + dilation k - padding] rhs[o, c, k]

With groups, a group's output features see its input features (`feature_group_count`) or its part of the batch
(`batch_group_count`) only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from asgfn.graph.asg import Node
from backends.kernels import index as ix
from backends.kernels.elements import Coordinates, Elements, accumulate, element_rule, multiply_add, padded
from backends.kernels.index import Index
from backends.kernels.ir import Builder, Value


class ConvolutionAxes:
    """The axes of a convolution, taken apart.

    Attributes:
        groups: number of groups.
        batch: length of the result's batch.
        features: output features of a group.
        channels: input features of a group.
        positions: spatial lengths of the result.
        taps: spatial lengths of the kernel.
    """

    def __init__(self, node: Node, lhs_shape: Sequence[int], rhs_shape: Sequence[int]):
        params = node.params
        self.params = params
        self.lhs_spec, self.rhs_spec, self.out_spec = params["dimension_numbers"]
        self.lhs_shape, self.rhs_shape = tuple(lhs_shape), tuple(rhs_shape)
        out_shape = node.out_types[0].shape
        self.by_feature = params["feature_group_count"] > 1
        self.groups = params["feature_group_count"] * params["batch_group_count"]
        self.batch = out_shape[self.out_spec[0]]
        self.features = out_shape[self.out_spec[1]] // self.groups
        self.channels = rhs_shape[self.rhs_spec[1]]
        self.positions = tuple(out_shape[d] for d in self.out_spec[2:])
        self.taps = tuple(rhs_shape[d] for d in self.rhs_spec[2:])

    @property
    def is_gradient(self) -> bool:
        """Whether this is the gradient of a convolution's kernel: then what is summed over is an image, and the result has few
        positions, the taps of that kernel."""
        return math.prod(self.taps) > math.prod(self.positions)

    def lhs(
        self,
        b: Builder,
        group: Index,
        n: Index,
        channel: Index,
        positions: Coordinates,
        taps: Coordinates,
        skip: tuple[int, ...] = (),
    ) -> tuple[Coordinates, Value | None]:
        """Coordinates in the first operand, and whether they are in it (None: they always are).

        Where `skip` is not 1, a spatial axis is left at 0.
        """
        batch, feature = (n, group * self.channels + channel) if self.by_feature else (group * self.batch + n, channel)
        steps = zip(positions, taps, self.params["window_strides"], self.params["rhs_dilation"], strict=True)
        places = tuple(p * stride + k * dilation for p, k, stride, dilation in steps)
        space = tuple(self.lhs_shape[d] for d in self.lhs_spec[2:])
        config = [
            (low, high, spread - 1)
            for (low, high), spread in zip(self.params["padding"], self.params["lhs_dilation"], strict=True)
        ]
        for i, d in enumerate(skip):
            if d > 1:
                places, config[i] = (*places[:i], ix.constant(0), *places[i + 1 :]), (0, 0, 0)
        inner, inside = padded(b, places, space, config)
        return placed((batch, feature, *inner), self.lhs_spec), inside

    # ------------------------------------------------------------------ without the zeros of an input that is spread out
    @property
    def phases(self) -> tuple[int, ...]:
        """For each spatial axis how many classes of positions see different taps.

        An input whose elements were moved d apart has zeros in between. Positions d u + r, of one r, meet the elements with
        every d-th tap only; so each class is a convolution of its own, with fewer taps and no zeros.
        """
        p = self.params
        steps = zip(p["lhs_dilation"], p["window_strides"], p["rhs_dilation"], self.positions, strict=True)
        return tuple(d if stride == dilation == 1 and size % d == 0 else 1 for d, stride, dilation, size in steps)

    def in_phase(
        self,
        b: Builder,
        group: Index,
        n: Index,
        channel: Index,
        phase: Coordinates,
        places: Coordinates,
        taps: Coordinates,
    ) -> tuple[Coordinates, Value | None]:
        """For the positions and taps with these numbers in their class: coordinates in the first operand, and whether there
        is such an element (None: always)."""
        phases = self.phases
        at, inside = self.lhs(b, group, n, channel, places, taps, skip=phases)
        coordinates, checks = list(at), [inside]
        for i, (r, u, j, d) in enumerate(zip(phase, places, taps, phases, strict=True)):
            if d > 1:
                above, lift = self._above(i, r, d)
                place = u + j - above.digit(d) + lift
                axis = self.lhs_spec[2 + i]
                checks.append(b.within(place, 0, self.lhs_shape[axis]))
                coordinates[axis] = place
        return tuple(coordinates), b.both(*checks)

    def taps_in_phase(self, b: Builder, phase: Coordinates, numbers: Coordinates) -> tuple[Coordinates, Value | None]:
        """The taps with these numbers in their class, and whether there are such (None: always)."""
        found, checks = [], []
        for i, (r, j, d) in enumerate(zip(phase, numbers, self.phases, strict=True)):
            tap = j if d == 1 else j * d + self._above(i, r, d)[0].digit(1, d)
            checks.append(b.within(tap, 0, self.taps[i]))
            found.append(tap)
        return tuple(found), b.both(*checks)

    def all_taps(self, b: Builder, phase: Coordinates) -> list[Value | None]:
        """For each spatial axis, whether this class has as many taps as any (None: all classes have); if not, it has one less."""
        found: list[Value | None] = []
        for i, (r, k, d) in enumerate(zip(phase, self.taps, self.phases, strict=True)):
            last = -(-k // d) - 1
            first = ix.constant(0) if d == 1 else self._above(i, r, d)[0].digit(1, d)
            found.append(b.within(first, 0, k - last * d))
        return found

    def _above(self, axis: int, phase: Index, d: int) -> tuple[Index, int]:
        """Padding - r + d * lift, which is not negative; and the lift.

        Tap k of position d u + r is at d u + r + k - padding of the spread input, a multiple of d for the taps that leave
        the same remainder as padding - r.
        """
        low = self.params["padding"][axis][0]
        lift = max(0, -((low - d + 1) // d))
        return -phase + (low + lift * d), lift

    def rhs(self, group: Index, feature: Index, channel: Index, taps: Coordinates) -> Coordinates:
        """Coordinates in the kernel."""
        return placed((group * self.features + feature, channel, *taps), self.rhs_spec)

    def out(self, group: Index, n: Index, feature: Index, positions: Coordinates) -> Coordinates:
        """Coordinates in the result."""
        return placed((n, group * self.features + feature, *positions), self.out_spec)


def placed(coordinates: Sequence[Index], spec: Sequence[int]) -> Coordinates:
    """Coordinates (batch, features, space) in the order of an operand's axes."""
    found: list[Index] = [ix.constant(0)] * len(spec)
    for axis, i in zip(spec, coordinates, strict=True):
        found[axis] = i
    return tuple(found)


@element_rule("conv_general_dilated")
def _convolution(e: Elements, node: Node, at: Coordinates, mask: Value | None) -> Value:
    x, y = node.inputs
    axes = ConvolutionAxes(node, e.type(x).shape, e.type(y).shape)
    out = node.out_types[0].dtype
    n, o, *positions = (at[d] for d in axes.out_spec)
    group = o.digit(axes.features)
    feature = o.digit(1, axes.features)

    def step(along: Coordinates, total: Value) -> Value:
        channel, *taps = along
        place, inside = axes.lhs(e.builder, group, n, channel, tuple(positions), tuple(taps))
        a = e.at(x, place, e.condition_of(mask, inside))
        c = e.at(y, axes.rhs(group, feature, channel, tuple(taps)), mask)
        a, c = (e.types.convert(e.builder, v, e.type(i).dtype, out) for v, i in ((a, x), (c, y)))
        more = multiply_add(e, a, c, total, out)
        # what lies outside adds nothing, not even the NaN of 0 * infinity
        return more if inside is None else e.builder.select(inside, more, total)

    start = e.types.constant(e.builder, 0, out)
    return accumulate(e.builder, [axes.channels, *axes.taps], start, step)
