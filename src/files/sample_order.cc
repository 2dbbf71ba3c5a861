#include "files/sample_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/errors.h"

namespace shardwise {

namespace {

// Every input bit changes every output bit with probability near one half: the output function of
// SplitMix64, which is Stafford's variant 13 of MurmurHash3's finaliser.
std::uint64_t mix(std::uint64_t value) {
  value += 0x9e3779b97f4a7c15U;
  value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27U)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31U);
}

}  // namespace

DataSplit split_off_evaluation(std::int64_t num_tokens, double fraction) {
  SHARDWISE_CHECK(num_tokens >= 0 && fraction >= 0 && fraction < 1, "fraction of evaluation data");
  const auto evaluation =
      static_cast<std::int64_t>(std::floor(static_cast<double>(num_tokens) * fraction));
  const std::int64_t border = num_tokens - std::min(evaluation, num_tokens);
  return {.train = {.begin = 0, .end = border}, .evaluation = {.begin = border, .end = num_tokens}};
}

std::int64_t num_windows(const TokenRange& range, std::int64_t sequence) {
  SHARDWISE_CHECK(sequence >= 1, "windows without tokens");
  return std::max(range.size() - 1, std::int64_t{0}) / sequence;
}

Permutation::Permutation(std::int64_t size, std::uint64_t key)
    : size_(static_cast<std::uint64_t>(size)), key_(key) {
  SHARDWISE_CHECK(size >= 1 && size <= std::int64_t{1} << 62, "size of a permutation");
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(size_ - 1)) + 1) / 2);
}

std::uint64_t Permutation::encrypt(std::uint64_t value) const {
  constexpr std::uint64_t kRounds = 6;
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::uint64_t next = left ^ (mix(mix(key_ + round) ^ right) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

std::int64_t Permutation::operator()(std::int64_t index) const {
  SHARDWISE_CHECK(index >= 0 && static_cast<std::uint64_t>(index) < size_,
                  "index of a permutation");
  // The cycle of `index` under encrypt() comes back to [0, size), at the latest at `index` itself.
  auto value = static_cast<std::uint64_t>(index);
  do {
    value = encrypt(value);
  } while (value >= size_);
  return static_cast<std::int64_t>(value);
}

SampleOrder::SampleOrder(const TokenRange& range,
                         std::int64_t sequence,
                         std::int64_t global_batch,
                         std::uint64_t seed,
                         const std::string& data_name)
    : range_(range),
      sequence_(sequence),
      global_batch_(global_batch),
      seed_(seed),
      num_windows_(num_windows(range, sequence)) {
  SHARDWISE_CHECK(global_batch >= 1, "a batch without samples");
  if (num_windows_ == 0) {
    throw InputError(data_name,
                     fmt::format("expected at least {} tokens, one more than the sequence, found "
                                 "{}; use more data or a shorter sequence",
                                 sequence + 1,
                                 range.size()));
  }
}

Sample SampleOrder::sample(std::int64_t step, std::int64_t position) const {
  std::int64_t number = 0;  // among all samples of the run
  SHARDWISE_CHECK(step >= 0 && position >= 0 && position < global_batch_ &&
                      !__builtin_mul_overflow(step, global_batch_, &number) &&
                      !__builtin_add_overflow(number, position, &number),
                  "step or position of a sample");
  const std::int64_t epoch = number / num_windows_;
  // Mixed one after the other, so that (seed 1, epoch 2) and (seed 2, epoch 1) differ.
  const std::uint64_t key = mix(mix(seed_) + static_cast<std::uint64_t>(epoch));
  const std::int64_t window = Permutation(num_windows_, key)(number % num_windows_);
  return {.epoch = epoch, .window = window, .begin = range_.begin + window * sequence_};
}

}  // namespace shardwise
