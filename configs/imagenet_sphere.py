"""SphereNet-9 at half width on ImageNet, 224 x 224 pixels.

Claim: none of the paper's, whose network for ImageNet is a ResNet. This one shows the
whole path: streamed photographs, bfloat16, a learning rate for large batches, exact
resuming, on one accelerator or many.

Recipe: 90 epochs of 1,024 images, SGD with Nesterov momentum 0.9 at 0.4, warm-up during
5.5 % of the run and a cosine schedule, random-resized crops and mirrored images, label
smoothing 0.1, orthogonality 1e-4 on spherical filters, L2 5e-5 on all others.

Command:
    python train.py --config=configs/imagenet_sphere.py --workdir=runs/imagenet

    The data: `tfds:imagenet2012` prepared as array_record in `data.data_dir`. From the
    published archives, without TensorFlow, at a shorter side of 256 pixels:
    `python -m hypersphere.data prepare tar:PATH --out=DATA_DIR --name=imagenet256
    --max_side=256`, then `--config.data.source=tfds:imagenet256`. What it takes:
    `--dry_run`. Several hosts: `launch/`.

Reached: not run yet.
"""

from hypersphere.training import TrainConfig


def get_config() -> TrainConfig:
    config = TrainConfig(steps="90 epochs", batch_size=1024, eval_batch_size=1024)
    config.log_every, config.eval_every = 100, "1 epochs"
    config.checkpoint_every = 1_000
    config.data.source = "tfds:imagenet2012"
    config.data.stream, config.data.image_size = True, 224
    config.data.flip = True
    config.model.depth, config.model.width = 9, 0.5
    config.model.similarity = "linear"
    config.model.momentum = 0.9
    config.model.dtype = "bfloat16"
    config.loss.label_smoothing = 0.1
    config.optim.name, config.optim.nesterov = "sgd", True
    config.optim.learning_rate = 0.4
    config.optim.schedule, config.optim.warmup = "cosine", "5.5%"
    config.optim.orthogonality, config.optim.l2 = 1e-4, 5e-5
    return config
