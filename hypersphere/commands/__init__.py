"""What one does with a trained model: evaluate, predict, embed, verify, retrieve.

Each is a function here and a command, `python -m hypersphere COMMAND --help`, on the
folder of a run or of an export. Needs the extra `[evaluate]`.
"""

from hypersphere.commands._embed import (
    Embeddings as Embeddings,
    embed as embed,
    read_embeddings as read_embeddings,
)
from hypersphere.commands._evaluate import evaluate as evaluate
from hypersphere.commands._openset import novel as novel, openset as openset
from hypersphere.commands._pair_lists import (
    Pairs as Pairs,
    read_bin as read_bin,
    read_pairs as read_pairs,
)
from hypersphere.commands._predict import (
    Prediction as Prediction,
    Predictions as Predictions,
    predict as predict,
)
from hypersphere.commands._retrieve import retrieve as retrieve
from hypersphere.commands._verify import (
    Scored as Scored,
    identify as identify,
    verify as verify,
)
