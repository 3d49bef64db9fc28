"""What a precision below float32 costs: mean losses beside those of float32 at two points; writes nothing."""

from dataclasses import replace

from landscape_mpi.assemble import without_tf32
from landscape_mpi.evaluate import EagerEvaluator, Evaluator
from landscape_mpi.mpi.world import World, together
from landscape_mpi.plane import Plane
from landscape_mpi.sweeping.choose_engine import FAR_IMAGES, far_corner
from landscape_mpi.sweeping.collective import at, evaluate_all, means
from landscape_mpi.sweeping.compare import CENTRE
from landscape_mpi.sweeping.experiment import Experiment
from landscape_mpi.sweeping.precision import deviation


def precision_error(world: World, experiment: Experiment, plane: Plane, evaluator: Evaluator) -> float:
    """Return by how much of it a mean loss deviates at most from the plain network's in float32; collective.

    At the centre over all images, at the corner of the grid farthest from it over 256 of each split.
    """
    task = replace(experiment.task, autocast=None)
    exact = together(world, EagerEvaluator, experiment.theta.network, plane, task, evaluator.batch)
    deviations = []
    for point, limit in ((CENTRE, None), (far_corner(experiment.job.values.chosen_grid), FAR_IMAGES)):
        ours = evaluate_all(world, experiment, at(evaluator, point), evaluator.batch, limit)
        with without_tf32(experiment.precision.tf32):
            plain = evaluate_all(world, experiment, at(exact, point), evaluator.batch, limit)
        deviations.append(deviation(*(means(found, experiment.job.values.metrics) for found in (plain, ours))))
    return max(deviations)
