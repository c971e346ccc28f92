"""Stand-in: base class of models for the chip's embedded processors.

Without `AbstractCProcessModel`, which the closed package also has, Lava's compiler takes all models for CPU models.
"""

from lava.magma.core.model.model import AbstractProcessModel


class CLoihiProcessModel(AbstractProcessModel):
    pass
