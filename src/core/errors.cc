#include "core/errors.h"

#include <cstdio>
#include <cstdlib>

namespace shardwise {

namespace {
constexpr int kBugExitCode = 70;  // EX_SOFTWARE of sysexits.h
}

void check_failed(const char* condition, const char* file, int line, std::string_view message) {
  std::fprintf(stderr,
               "%s:%d: bug in shardwise: %.*s\n  broken invariant: %s\n",
               file,
               line,
               static_cast<int>(message.size()),
               message.data(),
               condition);
  std::fflush(nullptr);
  // Not exit(): static destructors and MPI's own handlers must not run on a broken state.
  std::_Exit(kBugExitCode);
}

}  // namespace shardwise
