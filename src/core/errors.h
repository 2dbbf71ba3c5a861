// Errors of input and environment, failures of a run, and broken invariants.
//
// An outcome (infeasible, limit reached) is a value, never one of these. `cli` turns InputError
// into exit code 2, RuntimeFailure into 4 and a failed check into 70.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace shardwise {

// Bad input or environment. Message = "<where>: <what>": the place (file:line: key 'k'), then what
// was expected, what was found and the nearest remedy.
class InputError : public std::runtime_error {
 public:
  InputError(const std::string& where, const std::string& what)
      : std::runtime_error(where.empty() ? what : where + ": " + what) {}
};

// A run failed: a lost rank, a timeout, a full disk. The message names rank, operation and elapsed
// time.
class RuntimeFailure : public std::runtime_error {
 public:
  explicit RuntimeFailure(const std::string& what) : std::runtime_error(what) {}
};

// Prints the broken invariant and ends the process with code 70.
[[noreturn]] void check_failed(const char* condition,
                               const char* file,
                               int line,
                               std::string_view message);

}  // namespace shardwise

// Invariant checked in all builds: a failure is a bug of Shardwise, never of its input.
#define SHARDWISE_CHECK(condition, message)                                 \
  do {                                                                      \
    if (!(condition)) {                                                     \
      ::shardwise::check_failed(#condition, __FILE__, __LINE__, (message)); \
    }                                                                       \
  } while (false)

// Costly oracle, checked in debug builds only.
#ifdef NDEBUG
#define SHARDWISE_DCHECK(condition, message) \
  do {                                       \
  } while (false)
#else
#define SHARDWISE_DCHECK(condition, message) SHARDWISE_CHECK(condition, message)
#endif
