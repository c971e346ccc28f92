"""Lowering: quantised graph -> integer spiking graph."""

from fastsnn_deploy.lower.convert import convert as convert
from fastsnn_deploy.lower.lower import lower as lower
