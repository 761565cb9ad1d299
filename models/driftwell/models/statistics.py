"""Pure. How a network follows the BatchNorm statistics of its own stream."""

from typing import Annotated

import msgspec

Rate = Annotated[float, msgspec.Meta(gt=0, le=1)]
Images = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class StatisticsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The average over the own stream, and what it is weighed against."""

    rate: Rate = 0.001
    """Share of one image in the average: it forgets over about 1 / rate images."""
    prior_images: Images = 16
    """Images of the own stream that weigh as much as the source's statistics."""
    design_effect: bool = False
    """Whether images count as fewer while they come in runs (`design_effect`)."""
    home_images: Images = 1024
    """What the source's statistics may be worth at most while the stream looks like the images of
    training (`nearness`); 0: what they are worth does not depend on that."""
    version_images: Images = 256
    """The same for the statistics that a version brings: they are of its own weights."""
