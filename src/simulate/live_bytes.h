// Which bytes are alive while a program runs, instruction by instruction. Internal to simulate.
#pragma once

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "lower/program.h"

namespace shardwise::internal {

// Call begin() and end() around each instruction, in program order. Losses, one number a
// micro-batch, are left out.
class LiveBytes {
 public:
  explicit LiveBytes(const Program& program);

  void begin(const Instruction& instruction);  // what it writes is alive, its workspace too
  void end(const Instruction& instruction);    // what it frees is not

  Bytes state() const { return state_; }  // weights, gradients, optimizer: all the time
  Bytes bytes() const { return live_; }   // beyond `state`
  Bytes peak() const { return peak_; }    // of `bytes` and workspaces so far

 private:
  using OpKey = std::pair<int, int>;  // layer, op

  Bytes gathered(const Instruction& instruction) const;
  void revive(BufferId id);
  void bury(BufferId id);

  const Program& program_;
  const std::int64_t compute_bytes_;
  Bytes state_{0};
  Bytes live_{0};
  Bytes peak_{0};
  std::vector<bool> is_alive_;
  // Gradients that the op's backward makes whole and its reduction shares out.
  std::map<OpKey, Bytes> shared_out_;
  std::set<OpKey> whole_;
};

}  // namespace shardwise::internal
