#include "runtime/rotary_table.h"

#include <ATen/ops/cos.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include <cmath>
#include <list>
#include <mutex>
#include <numbers>

#include "core/errors.h"

namespace shardwise {

namespace {

// Llama 3.1's scaling (transformers: _compute_llama3_parameters).
double llama3_frequency(double frequency, const std::vector<double>& parameters) {
  const double factor = parameters[0];
  const double low = parameters[1];
  const double high = parameters[2];
  const double original_positions = parameters[3];
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength > original_positions / low) {
    return frequency / factor;
  }
  if (wavelength < original_positions / high) {
    return frequency;
  }
  const double smooth = (original_positions / wavelength - low) / (high - low);
  return (1 - smooth) * frequency / factor + smooth * frequency;
}

void require_parameters(const OpAttributes& attributes, std::size_t count) {
  if (attributes.rope_parameters.size() != count) {
    throw InputError("rotary position",
                     fmt::format("expected {} parameters of rope type {}, got {}",
                                 count,
                                 attributes.rope_type,
                                 attributes.rope_parameters.size()));
  }
}

// What a table depends on.
struct TableKey {
  double theta;
  std::int64_t dims;
  std::string type;
  std::vector<double> parameters;
  std::vector<std::int64_t> positions;
  at::ScalarType scalar_type;
  at::Device device;

  bool operator==(const TableKey&) const = default;
};

RotaryTable make_table(const OpAttributes& attributes, const TableKey& key) {
  const at::ScalarType exact = key.scalar_type == at::kDouble ? at::kDouble : at::kFloat;
  const at::TensorOptions options = at::TensorOptions().dtype(exact);
  const at::Tensor frequencies = at::tensor(rotary_frequencies(attributes), options);
  const at::Tensor positions = at::tensor(key.positions, at::TensorOptions(at::kLong)).to(exact);
  const at::Tensor angles = at::outer(positions, frequencies);
  const at::TensorOptions result = at::TensorOptions().dtype(key.scalar_type).device(key.device);
  return {at::cos(angles).to(result), at::sin(angles).to(result)};
}

}  // namespace

std::vector<double> rotary_frequencies(const OpAttributes& attributes) {
  std::vector<double> frequencies;
  for (std::int64_t i = 0; 2 * i < attributes.rotary_dims; ++i) {
    const double exponent =
        static_cast<double>(2 * i) / static_cast<double>(attributes.rotary_dims);
    frequencies.push_back(std::pow(attributes.rope_theta, -exponent));
  }
  if (attributes.rope_type.empty() || attributes.rope_type == "default") {
    return frequencies;
  }
  if (attributes.rope_type == "linear") {
    require_parameters(attributes, 1);
    for (double& frequency : frequencies) {
      frequency /= attributes.rope_parameters[0];
    }
    return frequencies;
  }
  if (attributes.rope_type == "llama3") {
    require_parameters(attributes, 4);
    for (double& frequency : frequencies) {
      frequency = llama3_frequency(frequency, attributes.rope_parameters);
    }
    return frequencies;
  }
  throw InputError("rotary position",
                   "expected rope type default, linear or llama3, got \"" + attributes.rope_type +
                       "\"; the runtime cannot train with it");
}

RotaryTable rotary_table(const OpAttributes& attributes,
                         const std::vector<std::int64_t>& positions,
                         const at::TensorOptions& options) {
  struct Entry {
    TableKey key;
    RotaryTable table;
  };
  // A model has one or two; tests have more. The most recent ones come first.
  constexpr std::size_t kEntries = 16;
  static std::mutex mutex;
  static std::list<Entry> entries;

  TableKey key{attributes.rope_theta,
               attributes.rotary_dims,
               attributes.rope_type,
               attributes.rope_parameters,
               positions,
               c10::typeMetaToScalarType(options.dtype()),
               options.device()};
  const std::lock_guard lock(mutex);
  for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
    if (entry->key == key) {
      entries.splice(entries.begin(), entries, entry);
      return entries.front().table;
    }
  }
  RotaryTable table = make_table(attributes, key);
  entries.push_front({std::move(key), table});
  if (entries.size() > kEntries) {
    entries.pop_back();
  }
  return table;
}

}  // namespace shardwise
