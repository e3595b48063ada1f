"""Losses, with the names, arguments and numerics of `torch.nn.functional`.

`input` and `target` come first, and `reduction` says whether losses come one by one ("none"), as their sum, or as
their mean. Shapes must be equal: those that merely broadcast are refused.
"""

from nn_fn.functional.losses.binary import binary_cross_entropy as binary_cross_entropy
from nn_fn.functional.losses.binary import binary_cross_entropy_with_logits as binary_cross_entropy_with_logits
from nn_fn.functional.losses.binary import multilabel_soft_margin_loss as multilabel_soft_margin_loss
from nn_fn.functional.losses.binary import soft_margin_loss as soft_margin_loss
from nn_fn.functional.losses.classification import cross_entropy as cross_entropy
from nn_fn.functional.losses.classification import nll_loss as nll_loss
from nn_fn.functional.losses.ctc import ctc_loss as ctc_loss
from nn_fn.functional.losses.divergence import kl_div as kl_div
from nn_fn.functional.losses.focal import focal_loss as focal_loss
from nn_fn.functional.losses.focal import sigmoid_focal_loss as sigmoid_focal_loss
from nn_fn.functional.losses.margin import hinge_loss as hinge_loss
from nn_fn.functional.losses.margin import multi_margin_loss as multi_margin_loss
from nn_fn.functional.losses.margin import multilabel_margin_loss as multilabel_margin_loss
from nn_fn.functional.losses.margin import squared_hinge_loss as squared_hinge_loss
from nn_fn.functional.losses.ranking import cosine_embedding_loss as cosine_embedding_loss
from nn_fn.functional.losses.ranking import hinge_embedding_loss as hinge_embedding_loss
from nn_fn.functional.losses.ranking import margin_ranking_loss as margin_ranking_loss
from nn_fn.functional.losses.ranking import triplet_margin_loss as triplet_margin_loss
from nn_fn.functional.losses.ranking import triplet_margin_with_distance_loss as triplet_margin_with_distance_loss
from nn_fn.functional.losses.regression import gaussian_nll_loss as gaussian_nll_loss
from nn_fn.functional.losses.regression import huber_loss as huber_loss
from nn_fn.functional.losses.regression import l1_loss as l1_loss
from nn_fn.functional.losses.regression import mse_loss as mse_loss
from nn_fn.functional.losses.regression import poisson_nll_loss as poisson_nll_loss
from nn_fn.functional.losses.regression import smooth_l1_loss as smooth_l1_loss
