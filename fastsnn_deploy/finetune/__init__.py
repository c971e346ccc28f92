"""Layer-wise fine-tuning of a quantised network that runs as a spiking network for its window only."""

from fastsnn_deploy.finetune.finetune import Finetuner as Finetuner
from fastsnn_deploy.finetune.finetune import LayerRecord as LayerRecord
from fastsnn_deploy.finetune.finetune import Settings as Settings
from fastsnn_deploy.finetune.finetune import published_graph as published_graph
from fastsnn_deploy.finetune.layers import Layer as Layer
from fastsnn_deploy.finetune.layers import find_layers as find_layers
