"""What networks answer: a class, boxes, or a class for every pixel. Docs: `docs/detection_segmentation.md`."""

from fastsnn_deploy.tasks.base import TASKS as TASKS
from fastsnn_deploy.tasks.base import Task as Task
from fastsnn_deploy.tasks.base import read_task as read_task
from fastsnn_deploy.tasks.base import task_in as task_in
from fastsnn_deploy.tasks.base import task_of as task_of
from fastsnn_deploy.tasks.classification import Classification as Classification
from fastsnn_deploy.tasks.detection import Detection as Detection
from fastsnn_deploy.tasks.evaluate import TaskEvaluation as TaskEvaluation
from fastsnn_deploy.tasks.evaluate import evaluate_task as evaluate_task
from fastsnn_deploy.tasks.scenes import Boxes as Boxes
from fastsnn_deploy.tasks.scenes import Scenes as Scenes
from fastsnn_deploy.tasks.scenes import drawn_boxes as drawn_boxes
from fastsnn_deploy.tasks.segmentation import Segmentation as Segmentation
from fastsnn_deploy.tasks.sources import load_scenes as load_scenes
from fastsnn_deploy.tasks.trainer import TaskTrainer as TaskTrainer
from fastsnn_deploy.tasks.trainer import trainer_for as trainer_for
