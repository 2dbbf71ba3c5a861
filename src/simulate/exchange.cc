// Exchanges that hide nothing, as frameworks without overlap of pipeline messages do it: what the
// task sends and what the next one receives is posted together and waited for at once.
#include <map>

#include "simulate/script.h"

namespace shardwise::internal {

namespace {

bool is_message(const Step& step) {
  return step.kind == StepKind::kPost || step.kind == StepKind::kWait;
}

class ExchangeWriter {
 public:
  explicit ExchangeWriter(Script& script) : script_(script) {}

  void write() {
    const std::vector<Step> steps = std::move(script_.steps);
    const std::vector<StepLabel> labels = std::move(script_.labels);
    script_.steps.clear();
    script_.labels.clear();
    labels_of_steps_ = &labels;
    std::size_t begin = 0;
    while (begin < steps.size()) {
      std::size_t end = begin;
      while (end < steps.size() && is_message(steps[end])) {
        ++end;
      }
      write_segment(steps, begin, end);
      if (end < steps.size()) {
        keep(steps, end);
        ++end;
      }
      begin = end;
    }
  }

 private:
  void keep(const std::vector<Step>& steps, std::size_t i) {
    script_.steps.push_back(steps[i]);
    if (!labels_of_steps_->empty()) {
      script_.labels.push_back((*labels_of_steps_)[i]);
    }
  }

  const MessageEnd& end_of(const Step& step) const {
    return script_.messages[static_cast<std::size_t>(step.index)];
  }

  // Posts of sends, posts of the receives that are waited for here, and the waits of both.
  void write_segment(const std::vector<Step>& steps, std::size_t begin, std::size_t end) {
    std::vector<std::size_t> posted;
    for (std::size_t i = begin; i < end; ++i) {
      if (steps[i].kind != StepKind::kPost) {
        continue;
      }
      if (end_of(steps[i]).sends) {
        posted.push_back(i);
        keep(steps, i);
      } else {
        held_back_[steps[i].index] = i;
      }
    }
    std::vector<std::size_t> waits;
    for (std::size_t i = begin; i < end; ++i) {
      if (steps[i].kind == StepKind::kWait && !end_of(steps[i]).sends) {
        keep(steps, held_back_.at(steps[i].index));
        waits.push_back(i);
      }
    }
    for (const std::size_t i : posted) {
      keep(steps, i);
      script_.steps.back().kind = StepKind::kWait;
    }
    for (const std::size_t i : waits) {
      keep(steps, i);
    }
  }

  Script& script_;
  const std::vector<StepLabel>* labels_of_steps_ = nullptr;
  std::map<int, std::size_t> held_back_;  // posts of receives, by message
};

}  // namespace

void make_exchanges_synchronous(Script& script) { ExchangeWriter(script).write(); }

}  // namespace shardwise::internal
