"""The losses of several seeds at once on a GPU: what an agent computes for one seed, mapped over all.

What is exact, on the CPU, is in `together.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mtrepro.networks import mapping
from mtrepro.networks.tasks import BatchTasks

if TYPE_CHECKING:
    from mtrepro.soft_actor_critic.agent import SoftActorCritic


def over_seeds(agent: SoftActorCritic[Any], function: Callable[..., Any], *given: Any) -> Any:
    """function(*given) of an agent whose parameters are (seeds, *shape), for each seed by its own ones.

    Args:
        given: nothing, or a draw, its tasks, and the codes of all tasks or None, as a loss takes them; all of them and
            what comes out have the seeds in front.
    """

    def of_one(*its: Any) -> Any:
        if not given:
            return function()
        (draw, tasks, _), (batch, next_noise, noise, *codes) = given, its
        own = draw._replace(batch=batch, next_noise=next_noise, noise=noise)
        return function(own, BatchTasks(batch.task, tasks.count, tasks.longest), codes[0] if codes else None)

    places = [*mapping.places_of([*agent._networks().values(), agent.judges]), (vars(agent), "log_alpha")]
    stacked = [given[0].batch, given[0].next_noise, given[0].noise, given[2]] if given else []
    return mapping.over_seeds(places, of_one, *(each for each in stacked if each is not None))
