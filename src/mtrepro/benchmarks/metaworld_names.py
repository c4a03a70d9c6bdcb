"""MuJoCo's data with its named things remembered: a look-up by name otherwise costs more than a reward's arithmetic."""

from __future__ import annotations

import weakref
from typing import Any

import mujoco  # type: ignore[import-untyped]


class Named:
    """One body, geom or site: its place and turn as views that are kept, everything else asked of MuJoCo."""

    __slots__ = ("_data", "_kind", "_name", "id", "xmat", "xpos")

    def __init__(self, data: NamedData, kind: str, name: str) -> None:
        original = data.original(kind, name)
        # Neither `data` nor MuJoCo's own accessor, which holds it: `data` would hold itself and never be freed.
        kept = {"_data": weakref.ref(data), "_kind": kind, "_name": name}
        for key, value in {**kept, "id": original.id, "xmat": original.xmat, "xpos": original.xpos}.items():
            object.__setattr__(self, key, value)

    def __getattr__(self, key: str) -> Any:
        return getattr(self._data().original(self._kind, self._name), key)

    def __setattr__(self, key: str, value: Any) -> None:
        setattr(self._data().original(self._kind, self._name), key, value)


class NamedData(mujoco.MjData):  # type: ignore[misc]
    """MjData that remembers where its bodies, geoms and sites are.

    What is remembered hangs here and not on the environment, whose attributes are a checkpoint's state.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._bodies: dict[str, Named] = {}
        self._geoms: dict[str, Named] = {}
        self._sites: dict[str, Named] = {}
        self._hand, self._turn, self._grip = self.mocap_pos[0], self.mocap_quat[0], self.ctrl
        self.settles = True  # whether a reset lets the arm settle

    def original(self, kind: str, name: str) -> Any:
        """MuJoCo's own accessor of a body, geom or site."""
        return getattr(super(), kind)(name)

    def body(self, name: str) -> Named:
        """A body by its name."""
        try:
            return self._bodies[name]
        except KeyError:
            return self._bodies.setdefault(name, Named(self, "body", name))

    def geom(self, name: str) -> Named:
        """A geom by its name."""
        try:
            return self._geoms[name]
        except KeyError:
            return self._geoms.setdefault(name, Named(self, "geom", name))

    def site(self, name: str) -> Named:
        """A site by its name."""
        try:
            return self._sites[name]
        except KeyError:
            return self._sites.setdefault(name, Named(self, "site", name))
