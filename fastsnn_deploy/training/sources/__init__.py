"""Labelled images as people have them: one file a kind, known by content where it lies in files."""

from __future__ import annotations

from fastsnn_deploy.training.sources import named  # isort: skip  # noqa: F401  names come first
from fastsnn_deploy.training.sources import events  # isort: skip  # noqa: F401  known by more than a folder or a zip
from fastsnn_deploy.training.sources import datasets, hugging_face, webdataset, npz, folder  # isort: skip  # noqa: F401
from fastsnn_deploy.training.sources.base import SOURCES as SOURCES
from fastsnn_deploy.training.sources.base import Source as Source
from fastsnn_deploy.training.sources.base import Wanted as Wanted
from fastsnn_deploy.training.sources.base import pictures as pictures
