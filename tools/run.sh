#!/usr/bin/env bash
# Runs a command as if VENV were activated, with what Open MPI asks of root and of more ranks than cores.
#
#   [VENV=.venv] tools/run.sh COMMAND [ARGUMENT...]
#
# The environment's own programs come first: with MPI=pip that is the mpirun that fits its mpi4py.
set -euo pipefail

VIRTUAL_ENV=$(cd "${VENV:-"$(dirname "$0")/../.venv"}" && pwd)
export VIRTUAL_ENV PATH="$VIRTUAL_ENV/bin:$PATH"
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe # Open MPI 4 and 5
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
exec "$@"
