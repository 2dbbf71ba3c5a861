// Rows of a table of published training runs (columns of published_throughput.csv) and what they
// say as a run to be priced. What a row does not say comes from the defaults listed in
// docs/cost_model.md, "Scores", by column and note, never by source.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cost/model_accuracy.h"
#include "report/published_run.h"

namespace shardwise {

struct PublishedRow {
  int line = 0;                               // of the file, from 1
  std::map<std::string, std::string> values;  // by column

  const std::string& at(const std::string& column) const;  // "" if blank
};

// Reads comma-separated values with a header; fields may be quoted. Throws InputError (file, line)
// for a missing column, a wrong number of fields, an unclosed quote.
std::vector<PublishedRow> parse_published_rows(const std::string& text, const std::string& file);

// A row that can be predicted.
struct PublishedRun {
  const PublishedRow* row = nullptr;
  RunClass run_class = RunClass::kDenseHalf;
  DecoderShape shape;
  RunLayout layout;
  Execution execution;
  std::shared_ptr<RunModel> model;  // shared by copies of this row: prices only
  double measured = 0;              // s a step
  double measured_memory = 0;       // bytes that the fullest device allocated; 0: the row is silent
};

// The run, or why there is none: "blank: dp, tp", "layout: 2 x 4 is not 16 GPUs". Throws InputError
// with file, line and column for values that no run can have: NaN, negative or unreadable numbers.
struct ReadRun {
  std::optional<PublishedRun> run;
  std::string refusal;
};
ReadRun read_published_run(const PublishedRow& row, const std::string& file);

}  // namespace shardwise
