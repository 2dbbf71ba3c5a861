// Predictions of published runs against what was measured: errors by source and GPU, with nothing
// fitted on the source in question, and order inside layout sweeps.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "report/published_row.h"

namespace shardwise {

struct RefusedRow {
  const PublishedRow* row = nullptr;
  std::string reason;
};

struct ScoredRow {
  PublishedRun run;
  double shipped = 0;  // s, with the constants as shipped, which saw this row's source
  // s, with constants fitted on all other sources; the figure that counts.
  double left_out = 0;
  double calibrated = 0;  // left_out times one constant of the source, fitted without this row
  double memory = 0;      // bytes of the fullest device, reserve included
  double allocated = 0;   // of them without the reserve
  bool fits = false;
};

// Rows of the same source, model, GPU, number of GPUs, sequence, global batch and precision.
struct ScoredSweep {
  std::string name;
  std::vector<std::size_t> rows;  // indices into Scores::rows
  double rank_correlation = 0;    // Spearman's, ties share their mean rank
  double regret = 0;              // measured time of the predicted best over the best measured - 1
};

struct Scores {
  std::vector<ScoredRow> rows;
  std::vector<RefusedRow> refused;
  std::vector<ScoredSweep> sweeps;  // of six rows or more
  int with_time = 0;                // rows with complete layout and time
  ModelConstants fitted;            // on all rows; as shipped without a refit
};

// Refers to `rows`. Deterministic. Without a refit left_out = shipped. Throws what
// read_published_run throws.
enum class Refit { kNone, kEachSource };
Scores score_published_rows(const std::vector<PublishedRow>& rows,
                            const std::string& file,
                            Refit refit);

// Mean of |prediction / measured - 1| over the rows that `uses` accepts; 0 for none.
double mean_error(const Scores& scores,
                  double ScoredRow::*prediction,
                  const std::function<bool(const ScoredRow&)>& uses);

// Mean of |allocated / measured - 1| over the rows that say how much memory they took, and how many
// these are.
struct MemoryError {
  int rows = 0;
  double mean = 0;
};
MemoryError memory_error(const Scores& scores);

// Spearman's rank correlation of two lists of equal length, at least two; 0 if one is constant.
double rank_correlation(const std::vector<double>& a, const std::vector<double>& b);

// Tables for the terminal.
std::string to_text(const Scores& scores, bool calibrates);

// Error with nothing fitted on the source, by device and class of runs, sorted so. Names refer to
// `scores`.
std::vector<ModelAccuracy> accuracies_of(const Scores& scores);

// The same as lines of cost/model_accuracy.cc.
std::string accuracy_rows_text(const Scores& scores);

// "name = value", a line for each constant that published runs may move, as fitted on all rows:
// what cost/model_constants.h should say.
std::string fitted_constants_text(const Scores& scores);

// "line,source,model,gpu,n_gpus,measured_s,predicted_s,left_out_s,calibrated_s,memory_bytes".
std::string to_csv(const Scores& scores);

}  // namespace shardwise
