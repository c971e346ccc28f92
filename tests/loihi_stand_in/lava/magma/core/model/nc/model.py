"""Stand-in: base class of models for neuro-cores."""

from lava.magma.core.model.model import AbstractProcessModel


class AbstractNcProcessModel(AbstractProcessModel):
    pass
