"""Meta-World's sets of tasks, in its own order. Constants, so that planning imports no simulator; a test compares them.

Names are all that two versions of Meta-World have in common: map tasks by name, never by position.
"""

from __future__ import annotations

# fmt: off
MT10 = (
    "reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3",
    "button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3",
)

MT25 = (
    *MT10,
    "coffee-pull-v3", "pick-out-of-hole-v3", "disassemble-v3", "pick-place-wall-v3", "basketball-v3",
    "stick-pull-v3", "button-press-wall-v3", "faucet-open-v3", "door-lock-v3", "lever-pull-v3", "sweep-into-v3",
    "faucet-close-v3", "coffee-button-v3", "button-press-topdown-wall-v3", "dial-turn-v3",
)

MT50 = (
    "assembly-v3", "basketball-v3", "bin-picking-v3", "box-close-v3", "button-press-topdown-v3",
    "button-press-topdown-wall-v3", "button-press-v3", "button-press-wall-v3", "coffee-button-v3", "coffee-pull-v3",
    "coffee-push-v3", "dial-turn-v3", "disassemble-v3", "door-close-v3", "door-lock-v3", "door-open-v3",
    "door-unlock-v3", "hand-insert-v3", "drawer-close-v3", "drawer-open-v3", "faucet-open-v3", "faucet-close-v3",
    "hammer-v3", "handle-press-side-v3", "handle-press-v3", "handle-pull-side-v3", "handle-pull-v3", "lever-pull-v3",
    "pick-place-wall-v3", "pick-out-of-hole-v3", "pick-place-v3", "plate-slide-v3", "plate-slide-side-v3",
    "plate-slide-back-v3", "plate-slide-back-side-v3", "peg-insert-side-v3", "peg-unplug-side-v3", "soccer-v3",
    "stick-push-v3", "stick-pull-v3", "push-v3", "push-wall-v3", "push-back-v3", "reach-v3", "reach-wall-v3",
    "shelf-place-v3", "sweep-into-v3", "sweep-v3", "window-open-v3", "window-close-v3",
)

# Microseconds of one step by random actions, measured in one process: for sharing tasks out, where only ratios matter.
COSTS = {
    "assembly-v3": 134, "basketball-v3": 97, "bin-picking-v3": 110, "box-close-v3": 142,
    "button-press-topdown-v3": 72, "button-press-topdown-wall-v3": 76, "button-press-v3": 77,
    "button-press-wall-v3": 75, "coffee-button-v3": 89, "coffee-pull-v3": 121, "coffee-push-v3": 112,
    "dial-turn-v3": 81, "disassemble-v3": 126, "door-close-v3": 76, "door-lock-v3": 84, "door-open-v3": 81,
    "door-unlock-v3": 82, "hand-insert-v3": 105, "drawer-close-v3": 89, "drawer-open-v3": 85, "faucet-open-v3": 78,
    "faucet-close-v3": 79, "hammer-v3": 135, "handle-press-side-v3": 71, "handle-press-v3": 87,
    "handle-pull-side-v3": 88, "handle-pull-v3": 86, "lever-pull-v3": 77, "pick-place-wall-v3": 112,
    "pick-out-of-hole-v3": 105, "pick-place-v3": 94, "plate-slide-v3": 72, "plate-slide-side-v3": 72,
    "plate-slide-back-v3": 76, "plate-slide-back-side-v3": 76, "peg-insert-side-v3": 109, "peg-unplug-side-v3": 131,
    "soccer-v3": 100, "stick-push-v3": 127, "stick-pull-v3": 136, "push-v3": 103, "push-wall-v3": 110,
    "push-back-v3": 101, "reach-v3": 82, "reach-wall-v3": 84, "shelf-place-v3": 111, "sweep-into-v3": 103,
    "sweep-v3": 100, "window-open-v3": 74, "window-close-v3": 84,
}
# fmt: on

SETS = {"MT10": MT10, "MT25": MT25, "MT50": MT50}
