"""Kinds of connection. To add one: a file here, `@connects(type)(Kind)` in it, and its import below."""

from fastsnn_deploy.analysis.mapping.kinds.base import KINDS as KINDS
from fastsnn_deploy.analysis.mapping.kinds.base import Connection as Connection
from fastsnn_deploy.analysis.mapping.kinds.base import Part as Part
from fastsnn_deploy.analysis.mapping.kinds.dense import Dense as Dense
from fastsnn_deploy.analysis.mapping.kinds.window import Windowed as Windowed
