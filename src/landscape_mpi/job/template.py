"""Holds the commented job file that `init` writes."""

TEMPLATE = """\
# A loss landscape: f(alpha, beta) = L(theta* + alpha delta + beta eta).
# Check it:   python -m landscape_mpi check job.yaml
# Compute it: mpirun -n 4 python -m landscape_mpi sweep job.yaml     (again to go on where it stopped)
# Draw it:    landscape-plot surface.h5
# Every key is explained in docs/job.md. Relative paths start at this file's folder.

model:
  build: resnet20                   # resnet20/32/44/56/110, or "package.module:callable" (runs your code)
  options: {shortcut: projection}   # keyword arguments; the ResNets' shortcut: projection, pad or none
  checkpoint: nets/resnet20.pt      # theta*: .safetensors, a Hugging Face folder, or what torch.save wrote

data:
  build: cifar10                    # cifar10, shapes10 (needs no download), or "package.module:callable"
  root: data                        # the folder of cifar-10-batches-py; `fetch cifar10 --root data` fills it
  # normalize: {mean: [0.4914, 0.4824, 0.4467], std: [0.2471, 0.2435, 0.2616]}   # as in training
  splits: [train, test]             # each is evaluated at every point
  limit: 1000                       # the first n examples of each split; leave it out for all

loss: cross_entropy                 # or mse, next_token, or "package.module:callable"

plane:
  kind: random                      # or interpolate (with `to:`, `via:`), pca (`trajectory:`), hessian, file (`path:`)
  seed: 0
  normalize: filter                 # filter, layer, weight or none
  ignore: biasbn                    # leave biases and batch norm alone; or none, or name patterns

grid:
  alpha: [-1, 1, 25]                # first, last, number of points
  beta: [-1, 1, 25]                 # leave it out for a line

metrics: [loss, accuracy]           # and hessian: the extreme eigenvalues at every point (docs/curvature.md)
evaluate: {batch: auto, dtype: float32, batchnorm: keep, engine: auto}
# sampling: {error: 0.02}           # some examples a point, for 95 % error bars of 2 % (docs/sampling.md)
output: {file: surface.h5}
"""
