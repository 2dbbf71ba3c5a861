// How a command becomes several ranks: recognises a rank that somebody started (mpirun, srun,
// torchrun), or starts local ranks of the same command by mpirun.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace shardwise {

// Place of this process in a job that was started for it.
struct LaunchedRank {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;  // among the ranks of this machine
  int local_size = 1;
  std::string launcher;  // "mpirun", "srun", "torchrun"
};

// Reads the launcher's environment variables (OMPI_COMM_WORLD_*, PMI_*, SLURM_*, then torchrun's
// RANK ...); unset if the process was started by hand. `variable` looks a name up (tests pass their
// own). Throws InputError if a variable is no number, or the rank lies outside of the world.
using Environment = std::function<std::optional<std::string>(const std::string&)>;
std::optional<LaunchedRank> launched_rank(const Environment& variable);
std::optional<LaunchedRank> launched_rank();

// Runs `binary arguments...` as `ranks` local ranks under mpirun (the one that belongs to the MPI
// library, or SHARDWISE_MPIRUN of the environment) and waits. They end when this process does.
// Warns on stderr if they have to share cores. Returns the exit code of the first rank that failed,
// or 0; 4 if a signal ended it, or if mpirun itself failed (its code goes to stderr). Throws
// InputError if mpirun cannot be started.
int run_local_ranks(const std::string& binary,
                    const std::vector<std::string>& arguments,
                    int ranks);

// Arguments for mpirun, without its name: for run_local_ranks and for messages that show them.
std::vector<std::string> mpirun_arguments(const std::string& binary,
                                          const std::vector<std::string>& arguments,
                                          int ranks,
                                          bool is_root);

// Physical cores that this process may use: one processor number for each, lowest first.
std::vector<int> usable_cores();

// Pins this process to one core if there is one for each local rank, and makes ATen and its
// libraries use one thread. What small blocks free stays with the process (tensors:
// runtime/arena.h). Returns the processor it is pinned to, if any.
std::optional<int> settle_on_core(const LaunchedRank& place);

}  // namespace shardwise
