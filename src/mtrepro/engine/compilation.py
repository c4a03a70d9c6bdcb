"""An update recorded once and replayed: the GPU then waits for its own arithmetic alone, not for a Python program.

    inputs of a new kind:  keep the state -> warm up, put it back -> one eager update, kept and put back -> record
    every call:            copy the inputs into the recording's buffers -> replay -> the recording's outputs

What a recording gives first is compared with the eager update of the same inputs. Where anything fails, or the two
differ, the state is put back and updates are eager from there on, with a word: slower, never wrong.

A recording reads and writes the tensors that there were when it was made, so whoever owns them changes them in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from mtrepro.engine.adam import Adam
    from mtrepro.engine.execution import Execution

Outputs = dict[str, Tensor]
Inputs = TypeVar("Inputs", bound=tuple[Any, ...])

WARM_UPS = 3  # calls before a recording: libraries choose kernels and take their memory in the first ones
UNLIKE = 0.01  # largest distance of a replayed from an eager update, as a share of what the update changes


class Recorder(Protocol):
    """Records what a call computes."""

    def warm_up(self, call: Callable[[], object], times: int) -> None:
        """Make the call as often, in the way that it will be recorded."""
        ...

    def record(self, call: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """A function that does again what the call does, and where its outputs then stand.

        The call may be executed or not: the caller puts the state back.
        """
        ...


class CudaGraphs:
    """Records CUDA graphs; those of one run share their memory, because one follows the other.

    Each graph stays as long as the recorder, and the stream is the recorder's own: a graph that goes takes the matrix
    library's memory of its stream with it.
    """

    def __init__(self) -> None:
        self._graphs: list[Any] = []
        self._stream: Any = None

    def warm_up(self, call: Callable[[], object], times: int) -> None:
        """On a stream beside the current one, as torch asks for before a capture."""
        current = torch.cuda.current_stream()
        self._stream = beside = self._stream or cast(Any, torch.cuda.Stream)()
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            for _ in range(times):
                call()
        current.wait_stream(beside)

    def record(self, call: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        """Capture the call; nothing is executed."""
        graph, pool = torch.cuda.CUDAGraph(), self._graphs[0].pool() if self._graphs else None
        with torch.cuda.graph(graph, pool=pool, stream=self._stream):
            outputs = call()
        self._graphs.append(graph)
        return graph.replay, outputs


class Compiled(Generic[Inputs]):
    """A function of tensors that changes some state, recorded where the execution asks for it.

    Args:
        function: takes a tuple, nested or not, of tensors and of values that never change within a recording, such as
            sizes; it must ask the device for no number and draw nothing.
        changed: every tensor that the function changes.
    """

    def __init__(
        self, function: Callable[[Inputs], Outputs], changed: Callable[[], Iterable[Tensor]], execution: Execution
    ) -> None:
        self.function, self.changed, self.execution = function, changed, execution
        self._recordings: dict[Hashable, tuple[Sequence[Tensor], Callable[[], None], Outputs]] = {}

    def __call__(self, inputs: Inputs) -> Outputs:
        """What the function gives. A recording's outputs stand until the next call, which writes over them."""
        if self.execution.recorder is None:
            return self.function(inputs)
        kind = _kind(inputs)
        if kind not in self._recordings:
            return self._record(kind, inputs, self.execution.recorder)
        buffers, replay, outputs = self._recordings[kind]
        torch._foreach_copy_(list(buffers), list(_tensors(inputs)))
        replay()
        return outputs

    def forget(self) -> None:
        """Record anew: the tensors that the function changes lie elsewhere now."""
        self._recordings.clear()

    @torch.no_grad()
    def _record(self, kind: Hashable, inputs: Inputs, recorder: Recorder) -> Outputs:
        """Record, and make the update of these inputs: by the recording, or eagerly where it is of no use."""
        state = list(self.changed())
        before = [each.clone() for each in state]
        held = cast(Inputs, _mapped(inputs, Tensor.clone))

        def call() -> Outputs:
            with torch.enable_grad():
                return {name: value.detach() for name, value in self.function(held).items()}

        def put_back() -> None:
            torch._foreach_copy_(state, before)

        try:
            recorder.warm_up(call, WARM_UPS)
            put_back()
            call()
            expected = [each.clone() for each in state]
            put_back()
            replay, outputs = recorder.record(call)
            put_back()
            replay()
            if (distance := _distance(before, expected, state)) > UNLIKE:
                raise RuntimeError(f"a replayed update is {distance:.2g} of its size away from the eager one")
        except RuntimeError as error:  # torch's own: an operation that cannot be captured, no memory left
            put_back()
            self._recordings.clear()
            self.execution.fall_back(str(error).partition("\n")[0])
            with torch.enable_grad():
                return self.function(inputs)
        self._recordings[kind] = list(_tensors(held)), replay, outputs
        self.execution.note_replay()
        return outputs


def tensors_of(modules: Iterable[nn.Module], optimisers: Mapping[str, Adam]) -> list[Tensor]:
    """The parameters and buffers of networks, and what their optimisers keep."""
    networks = [each for module in modules for each in module.state_dict().values()]
    return [*networks, *(each for optimiser in optimisers.values() for each in optimiser.tensors())]


def _kind(value: Any) -> Hashable:
    """What a recording is made for: the shapes and types of tensors, and all else by its value."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    return tuple(_kind(item) for item in value) if isinstance(value, tuple) else cast(Hashable, value)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors(item)


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same nested tuples with each tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if not isinstance(value, tuple):
        return value
    items = [_mapped(item, change) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else tuple(items)


def _distance(before: list[Tensor], expected: list[Tensor], found: list[Tensor]) -> float:
    """The largest ||found - expected|| / ||expected - before|| of any tensor; NaN counts as equal to NaN.

    A tensor that should not have moved counts as infinitely far away where it has.
    """
    largest = 0.0
    for old, wanted, new in zip(before, expected, found, strict=True):
        if torch.equal(new, wanted):
            continue
        alike = new.isnan() & wanted.isnan()
        apart, moved = (
            torch.linalg.vector_norm(torch.where(alike, 0.0, (each - wanted).double())) for each in (new, old)
        )
        share = float(apart / moved) if float(apart) else 0.0
        largest = max(largest, share if math.isfinite(share) else math.inf)
    return largest
