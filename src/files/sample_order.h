// Which piece of the training data goes to which place of which step.
//
// The data is cut into W windows of S tokens: inputs [w S, w S + S), targets one token further,
// so neighbouring windows share one token and W = floor((tokens - 1) / S). Each epoch visits every
// window once, in an order that depends on the seed and the number of the epoch alone; batches go
// on across the end of an epoch. Hence a run can resume at any step, with any number of ranks.
#pragma once

#include <cstdint>
#include <string>

namespace shardwise {

// Tokens [begin, end) of a TokenSource.
struct TokenRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
};

struct DataSplit {
  TokenRange train;
  TokenRange evaluation;
};

// The last `fraction` of the tokens for evaluation (rounded down), the rest for training.
// Requires 0 <= fraction < 1.
DataSplit split_off_evaluation(std::int64_t num_tokens, double fraction);

// floor((tokens - 1) / sequence); 0 for fewer than sequence + 1 tokens. Evaluation takes them in
// order: window i begins at token range.begin + i * sequence.
std::int64_t num_windows(const TokenRange& range, std::int64_t sequence);

// A permutation of [0, size) that needs no memory, chosen by `key`.
//
// A balanced Feistel network of 6 rounds over the smallest even number of bits that holds `size`,
// walked until the value lies in [0, size) again (fewer than 4 steps on average). Source of the
// cycle walking: Black and Rogaway, CT-RSA 2002, "Ciphers with Arbitrary Finite Domains". The round
// function is a 64-bit mixer instead of a cipher: the order looks random, it is no secret.
class Permutation {
 public:
  // Requires 1 <= size <= 2^62.
  Permutation(std::int64_t size, std::uint64_t key);
  // Requires 0 <= index < size.
  std::int64_t operator()(std::int64_t index) const;

 private:
  std::uint64_t encrypt(std::uint64_t value) const;

  std::uint64_t size_;
  std::uint64_t key_;
  int half_bits_;
};

// Position of a window in a run.
struct Sample {
  std::int64_t epoch = 0;
  std::int64_t window = 0;
  std::int64_t begin = 0;  // first input token; the last target is token begin + sequence
};

class SampleOrder {
 public:
  // `data_name` labels the InputError for a range with fewer than sequence + 1 tokens.
  // Requires sequence >= 1 and global_batch >= 1.
  SampleOrder(const TokenRange& range,
              std::int64_t sequence,
              std::int64_t global_batch,
              std::uint64_t seed,
              const std::string& data_name);

  std::int64_t windows_per_epoch() const { return num_windows_; }
  // Requires step >= 0 and 0 <= position < global_batch. Constant time, thread-safe.
  Sample sample(std::int64_t step, std::int64_t position) const;

 private:
  TokenRange range_;
  std::int64_t sequence_;
  std::int64_t global_batch_;
  std::uint64_t seed_;
  std::int64_t num_windows_;
};

}  // namespace shardwise
