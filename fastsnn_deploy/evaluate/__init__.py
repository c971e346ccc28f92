"""A network over a whole data set, batch by batch: accuracy, accuracy at each step, and the work done."""

from fastsnn_deploy.evaluate.answers import integer_logits as integer_logits
from fastsnn_deploy.evaluate.answers import integer_outputs as integer_outputs
from fastsnn_deploy.evaluate.answers import twin_logits as twin_logits
from fastsnn_deploy.evaluate.counts import counts_of as counts_of
from fastsnn_deploy.evaluate.curve import curve_csv as curve_csv
from fastsnn_deploy.evaluate.curve import curve_rows as curve_rows
from fastsnn_deploy.evaluate.curve import draw_curve as draw_curve
from fastsnn_deploy.evaluate.evaluation import Evaluation as Evaluation
from fastsnn_deploy.evaluate.evaluation import TopK as TopK
from fastsnn_deploy.evaluate.evaluation import nothing as nothing
from fastsnn_deploy.evaluate.gathering import gather as gather
from fastsnn_deploy.evaluate.run import evaluate as evaluate
from fastsnn_deploy.evaluate.run import ranks as ranks
