"""The settings of the methods that begin with what other Dreamers learnt. Reading them needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from mtrepro.world_model.settings import DreamerSettings

Treatment = Literal["copy", "fraction", "fresh"]
InModel = Literal["copy", "fraction", "fresh", "frozen"]
Entering = Literal["copy", "fraction", "fresh", "frozen", "rows"]

_FEATURES = ("state_space", "latent", "latent_size", "latent_classes", "recurrent_size")
_DYNAMICS = (*_FEATURES, "recurrent_cell", "attention_layers", "attention_heads", "feedforward_size", "hidden_size")
_PICTURES = ("picture_channels", "picture_activation")
SHAPED_BY: dict[str, tuple[str, ...]] = {  # the settings that two runs must share before one can have the other's
    "encoder": _PICTURES,
    "decoder": (*_PICTURES, *_FEATURES),
    "dynamics": (*_DYNAMICS, "picture_channels"),
    "dynamics_enter": (*_FEATURES, "hidden_size"),
    **{f"{head}_{part}": (*_FEATURES, "width", f"{head}_depth")
       for head in ("reward", "continue", "actor", "critic") for part in ("hidden", "output")},
    "actor_output": (*_FEATURES, "width", "actor_depth", "actor_distribution", "actor_mean_scale", "actor_initial_std"),
}  # fmt: skip


_HEADS_ENTER = ("reward_hidden", "continue_hidden", "actor_hidden", "critic_hidden")
NOT_ALONE: dict[str, tuple[tuple[str, ...], str]] = {  # of what shares its parts in these ways, groups that do not fit
    "separate": (tuple(group for group in SHAPED_BY if group not in ("encoder", "decoder")), "has one for each task"),
    "embedded": (("decoder", "dynamics_enter", *_HEADS_ENTER), "also sees its task's code"),
}


class Groups(BaseModel):
    """What becomes of each group of parameters: `copy` takes the source's; `fraction` adds omega times the source's to
    the random ones; `fresh` leaves the random ones; `frozen` takes the source's, which then never move."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    encoder: InModel = Field(description="pictures to embeddings")
    decoder: InModel = Field(description="features to pictures")
    dynamics: InModel = Field(description="the state-space model, but for the layer that actions enter")
    dynamics_enter: Entering = Field(
        description="the layer that z and a enter; `rows` takes the source's inputs from z, and its bias, alone"
    )
    reward_hidden: InModel = Field(description="hidden layers of the reward model")
    reward_output: InModel = Field(description="its last layer")
    continue_hidden: InModel = Field(description="hidden layers of the continue model, where there is one")
    continue_output: InModel = Field(description="its last layer")
    actor_hidden: Treatment = Field(description="hidden layers of the actor")
    actor_output: Treatment = Field(description="its last layer")
    critic_hidden: Treatment = Field(description="hidden layers of the critic")
    critic_output: Treatment = Field(description="its last layer")


class TransferSettings(DreamerSettings):
    """Dreamer's, and what is taken from the source."""

    LEAVES_WEIGHTS: ClassVar[bool] = True

    mode: Literal["full", "modular", "fractional"] = Field(
        description="full: every group copied; modular: by the table, with omega 0; fractional: by the table"
    )
    omega: float = Field(ge=0, le=1, description="share of the source's parameters in groups that take a fraction")
    groups: Groups = Field(description="what becomes of each group of parameters: the table below")

    def treatments(self) -> dict[str, str]:
        """What becomes of each group, by its name."""
        table: dict[str, str] = self.groups.model_dump()
        return dict.fromkeys(table, "copy") if self.mode == "full" else table

    def share(self) -> float:
        """omega, as the mode has it."""
        return 0.0 if self.mode == "modular" else self.omega

    def source_conflicts(self, sources: Mapping[str, Mapping[str, Any] | None]) -> Iterator[tuple[str, str]]:
        """Sources that a run with these settings cannot begin from."""
        if list(sources) != ["source"]:
            found = ", ".join(sources) or "none"
            yield "sources", f"transfer begins from one run, which is called `source`; found: {found}"
        treatments = self.treatments()
        taken = [group for group, treatment in treatments.items() if treatment != "fresh"]
        whole = [group for group in taken if treatments[group] != "rows"]
        yield from not_alone(self, sources.get("source"), "source", whole if _told(sources.get("source")) else taken)
        yield from other_shapes(self, sources.get("source"), taken)


def not_alone(
    mine: DreamerSettings, source: Mapping[str, Any] | None, role: str, groups: list[str]
) -> Iterator[tuple[str, str]]:
    """The first group that a source of several tasks does not have as a single task's Dreamer has it."""
    sharing = source.get("sharing") if source else None
    theirs, reason = NOT_ALONE.get(str(sharing), ((), ""))
    for group in groups:
        if group in theirs and not (group.startswith("continue") and mine.continue_scale is None):
            yield (
                f"sources.{role}",
                f"a source with `sharing: {sharing}` {reason}: {group} would not fit; train it with `sharing: shared`, "
                f"or let {group} be fresh",
            )
            return


def _told(source: Mapping[str, Any] | None) -> bool:
    """Whether a source is told its task: the code enters after z, so that the inputs from z can be taken."""
    return source is not None and source.get("sharing") == "embedded"


def other_shapes(
    mine: DreamerSettings, source: Mapping[str, Any] | None, groups: list[str]
) -> Iterator[tuple[str, str]]:
    """The settings, known to both, in which a source differs so that groups of it do not fit."""
    values = mine.model_dump()
    for group in groups if source else ():
        if group.startswith("continue") and mine.continue_scale is None:
            continue
        for key in SHAPED_BY[group]:
            if source and key in source and key in values and source[key] != values[key]:
                yield f"settings.{key}", f"{values[key]!r}, but its source has {source[key]!r}: {group} would not fit"
                return


class MetaModelSettings(DreamerSettings):
    """Dreamer's, and what is made of the sources."""

    decoder: Literal["copy", "fresh"] = Field(description="begin with the decoder of the encoder's run, or a fresh one")
    meta_depth: int = Field(
        ge=0, description="hidden layers of the new reward model; `reward_depth` is that of the sources'"
    )
    reward_features: Literal["target", "source"] = Field(
        description="what the source reward models see: this run's features (published), or those of their own frozen "
        "state-space models, which follow the same embeddings"
    )

    def source_conflicts(self, sources: Mapping[str, Mapping[str, Any] | None]) -> Iterator[tuple[str, str]]:
        """Sources that a run with these settings cannot begin from."""
        rewards = [role for role in sources if role != "encoder"]
        if "encoder" not in sources or not rewards:
            yield (
                "sources",
                "needs `encoder`, whose encoder all share, and at least one more, whose reward model is asked; "
                f"found: {', '.join(sources) or 'none'}",
            )
        if self.reward_features == "source" and self.state_space != "recurrent":
            yield "settings.reward_features", "`source` needs recurrent state-space models, whose state is all of them"
        shared = ["encoder"] if self.decoder == "fresh" else ["encoder", "decoder"]
        yield from not_alone(self, sources.get("encoder"), "encoder", shared)
        yield from other_shapes(self, sources.get("encoder"), shared)
        asked = ["reward_hidden", "reward_output"]
        for role in rewards:
            more = ["dynamics"] if self.reward_features == "source" else []
            yield from not_alone(self, sources.get(role), role, [*asked, *more])
            yield from other_shapes(self, sources.get(role), [*asked, *more])
