#include "runtime/launcher.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <utility>

#include "core/errors.h"

namespace shardwise {

namespace {

struct LauncherVariables {
  const char* launcher;
  const char* rank;
  const char* world_size;
  const char* local_rank;
  const char* local_size;
};

// In the order in which they are believed: mpirun inside of an srun allocation sets both.
constexpr LauncherVariables kLaunchers[] = {
    {"mpirun",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"},
    {"torchrun", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
};

std::optional<int> number_of(const Environment& variable, const char* name) {
  const std::optional<std::string> text = variable(name);
  if (!text) {
    return std::nullopt;
  }
  int value = 0;
  const char* end = text->data() + text->size();
  const auto [stop, error] = std::from_chars(text->data(), end, value);
  // Slurm writes "2(x3)": two tasks on each of three nodes.
  if (error != std::errc() || (stop != end && *stop != '(' && *stop != ',') || value < 0) {
    throw InputError(fmt::format("environment variable {}", name),
                     fmt::format("expected a number, found \"{}\"; the launcher sets it", *text));
  }
  return value;
}

std::optional<int> read_topology(int cpu, const char* name) {
  std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/{}", cpu, name));
  int value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

std::string mpirun_path() {
  const char* chosen = std::getenv("SHARDWISE_MPIRUN");
  return chosen != nullptr ? chosen : SHARDWISE_MPIRUN;
}

[[noreturn]] void become(const std::string& program, const std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  argv.push_back(const_cast<char*>(program.c_str()));
  for (const std::string& argument : arguments) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  ::execvp(program.c_str(), argv.data());
  constexpr int kCannotStart = 127;
  ::_exit(kCannotStart);
}

// Runs a program to its end; its status as waitpid tells it. Throws RuntimeFailure if it cannot be
// started or a signal ended it.
int wait_status_of(const std::string& program, const std::vector<std::string>& arguments) {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) {
    throw RuntimeFailure(fmt::format("cannot start {}: {}", program, std::strerror(errno)));
  }
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) {
      ::_exit(1);  // the parent died before the signal was asked for
    }
    become(program, arguments);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    throw RuntimeFailure(fmt::format("{} was ended by signal {}", program, WTERMSIG(status)));
  }
  return status;
}

}  // namespace

std::optional<LaunchedRank> launched_rank(const Environment& variable) {
  for (const LauncherVariables& names : kLaunchers) {
    const std::optional<int> rank = number_of(variable, names.rank);
    const std::optional<int> world = number_of(variable, names.world_size);
    if (!rank || !world) {
      continue;
    }
    LaunchedRank place;
    place.rank = *rank;
    place.world_size = *world;
    place.local_rank = number_of(variable, names.local_rank).value_or(*rank);
    place.local_size = number_of(variable, names.local_size).value_or(*world);
    place.launcher = names.launcher;
    if (place.rank >= place.world_size) {
      throw InputError(fmt::format("environment variable {}", names.rank),
                       fmt::format("expected a rank below {} = {}, found {}",
                                   names.world_size,
                                   place.world_size,
                                   place.rank));
    }
    return place;
  }
  return std::nullopt;
}

std::optional<LaunchedRank> launched_rank() {
  return launched_rank([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
  });
}

std::vector<std::string> mpirun_arguments(const std::string& binary,
                                          const std::vector<std::string>& arguments,
                                          int ranks,
                                          bool is_root) {
  // Ranks pin themselves (settle_on_core); more ranks than cores are allowed, for tests.
  std::vector<std::string> all{
      "-n", std::to_string(ranks), "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"};
  if (is_root) {
    all.insert(all.begin(), "--allow-run-as-root");
  }
  all.push_back(binary);
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

int run_local_ranks(const std::string& binary,
                    const std::vector<std::string>& arguments,
                    int ranks) {
  const std::size_t cores = usable_cores().size();
  if (cores < static_cast<std::size_t>(ranks)) {
    fmt::print(stderr,
               "warning: {} ranks on {} cores: they share cores and are not pinned, so measured "
               "and predicted times do not hold\n",
               ranks,
               cores);
  }
  const std::string program = mpirun_path();
  const std::vector<std::string> all = mpirun_arguments(binary, arguments, ranks, ::geteuid() == 0);
  int status = wait_status_of(program, all);
  // On a busy machine the server of the launcher may be late: nothing has run then.
  constexpr int kServerNotStarted = 213;
  for (int again = 0; again < 3 && WEXITSTATUS(status) == kServerNotStarted; ++again) {
    status = wait_status_of(program, all);
  }
  if (WEXITSTATUS(status) == 127) {
    throw InputError(program, "cannot be started; run scripts/setup.sh, or set SHARDWISE_MPIRUN");
  }
  // Codes of a rank pass; any other is mpirun's own, or a rank ended by a signal: a run that
  // failed.
  constexpr int kRunFailed = 4;
  constexpr std::array kCodesOfRanks = {0, 2, kRunFailed, 70};
  const int code = WEXITSTATUS(status);
  if (std::find(kCodesOfRanks.begin(), kCodesOfRanks.end(), code) != kCodesOfRanks.end()) {
    return code;
  }
  fmt::print(stderr, "shardwise: {} ended with code {}\n", program, code);
  return kRunFailed;
}

std::vector<int> usable_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<int> cores;
  if (::sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
    return cores;
  }
  std::set<std::pair<int, int>> seen;  // (package, core)
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) {
      continue;
    }
    const int package = read_topology(cpu, "physical_package_id").value_or(0);
    const int core = read_topology(cpu, "core_id").value_or(cpu);
    if (seen.insert({package, core}).second) {
      cores.push_back(cpu);
    }
  }
  return cores;
}

std::optional<int> settle_on_core(const LaunchedRank& place) {
  at::set_num_threads(1);
  // Tensors of one step are freed and asked for again in the next: memory that went back to the
  // system in between would be faulted in again, page by page.
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  const std::vector<int> cores = usable_cores();
  // A launcher may tell another size for this machine than its local ranks (Slurm's "2,4").
  if (static_cast<int>(cores.size()) <= std::max(place.local_size - 1, place.local_rank)) {
    return std::nullopt;
  }
  const int cpu = cores[static_cast<std::size_t>(place.local_rank)];
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  if (::sched_setaffinity(0, sizeof(one), &one) != 0) {
    return std::nullopt;
  }
  return cpu;
}

}  // namespace shardwise
