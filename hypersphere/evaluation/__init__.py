"""After training: measures of classes, pairs, lists and what is unknown.

Pure functions on arrays, named after their conventions; NumPy on the host but for
`nearest`, which runs on the device. `clustering` needs the extra `[evaluate]`.
"""

from hypersphere.evaluation._calibration import (
    brier_score as brier_score,
    calibration_error as calibration_error,
    classwise_calibration_error as classwise_calibration_error,
    fit_temperature as fit_temperature,
    negative_log_likelihood as negative_log_likelihood,
)
from hypersphere.evaluation._classification import (
    confusion_matrix as confusion_matrix,
    per_class_accuracy as per_class_accuracy,
    top_k_accuracy as top_k_accuracy,
)
from hypersphere.evaluation._clustering import (
    Clustering as Clustering,
    clustering as clustering,
)
from hypersphere.evaluation._corruptions import (
    CORRUPTIONS as CORRUPTIONS,
    corrupted as corrupted,
)
from hypersphere.evaluation._openset import (
    Detection as Detection,
    NovelClasses as NovelClasses,
    average_precision as average_precision,
    ccr_at_fpr as ccr_at_fpr,
    class_means as class_means,
    cosine_score as cosine_score,
    detection as detection,
    energy_score as energy_score,
    knn_score as knn_score,
    mahalanobis_score as mahalanobis_score,
    novel_classes as novel_classes,
    oscr as oscr,
)
from hypersphere.evaluation._pairs import (
    Identification as Identification,
    Templates as Templates,
    as_norm as as_norm,
    centred_fold_accuracy as centred_fold_accuracy,
    identification as identification,
    pair_cosines as pair_cosines,
    pool_templates as pool_templates,
)
from hypersphere.evaluation._retrieval import (
    Retrieval as Retrieval,
    dual_bank_normalization as dual_bank_normalization,
    hubness as hubness,
    recall_of_neighbours as recall_of_neighbours,
    retrieval as retrieval,
    without_hubs as without_hubs,
)
from hypersphere.evaluation._search import Neighbours as Neighbours, nearest as nearest
from hypersphere.evaluation._verification import (
    Curve as Curve,
    Folds as Folds,
    area_under as area_under,
    equal_error_rate as equal_error_rate,
    fold_accuracy as fold_accuracy,
    min_dcf as min_dcf,
    roc as roc,
    tar_at_far as tar_at_far,
)
