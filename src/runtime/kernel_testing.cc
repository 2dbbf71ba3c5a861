#include "runtime/kernel_testing.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <string>

#include "runtime/thread_communicator.h"

namespace shardwise::testing {

namespace {

std::size_t at_index(int index) { return static_cast<std::size_t>(index); }

const Tensor& tensor_of(const KernelCase& subject, const Operand& operand) {
  return subject.block.tensors[at_index(operand.tensor)];
}

bool is_integer(const Tensor& tensor) { return tensor.type == ElementType::kInt64; }

std::int64_t axis_size(const Op& op, const std::string& name) {
  return op.axes[at_index(axis_index(op, name))].size;
}

at::Tensor random_integers(const KernelCase& subject, const Tensor& tensor) {
  const Op& op = subject.subject();
  if (op.kind != OpKind::kExperts) {
    return at::randint(0, axis_size(op, "v"), tensor.shape, at::TensorOptions(at::kLong));
  }
  const at::Tensor scores = at::rand({tensor.shape[0], tensor.shape[1], axis_size(op, "e")},
                                     at::TensorOptions(at::kFloat));
  return std::get<1>(at::topk(scores, tensor.shape[2], -1));
}

Kernel::BackwardInputs backward_inputs(const Op& op,
                                       const std::vector<at::Tensor>& gradients,
                                       const std::vector<at::Tensor>& inputs,
                                       const std::vector<at::Tensor>& forward) {
  const SavedForBackward saved = definition_of(op.kind).saved(op);
  Kernel::BackwardInputs in;
  in.output_gradients = gradients;
  for (const int input : saved.inputs) {
    in.saved_inputs.push_back(inputs[at_index(input)]);
  }
  for (const int output : saved.outputs) {
    in.saved_outputs.push_back(forward[at_index(output)]);
  }
  in.statistics.assign(forward.begin() + static_cast<std::ptrdiff_t>(op.outputs.size()),
                       forward.end());
  return in;
}

void expect_statistics(const KernelContext& context, const std::vector<at::Tensor>& forward) {
  const Op& op = *context.op;
  const SavedForBackward saved = definition_of(op.kind).saved(op);
  ASSERT_EQ(forward.size(), op.outputs.size() + saved.statistics.size());
  for (std::size_t s = 0; s < saved.statistics.size(); ++s) {
    std::vector<std::int64_t> shape;
    for (const int axis : saved.statistics[s].axes) {
      shape.push_back(context.sizes[at_index(axis)]);
    }
    const at::Tensor& statistic = forward[op.outputs.size() + s];
    EXPECT_EQ(statistic.sizes(), at::IntArrayRef(shape)) << saved.statistics[s].name;
    EXPECT_NE(statistic.scalar_type(), at::kBFloat16) << saved.statistics[s].name;
    EXPECT_TRUE(statistic.is_contiguous()) << saved.statistics[s].name;
  }
}

// Runs both directions in `context`, whose accumulators hold ones.
KernelResults run(const KernelContext& context,
                  const std::vector<at::Tensor>& inputs,
                  const std::vector<at::Tensor>& output_gradients) {
  const Op& op = *context.op;
  const Kernel& kernel = kernel_of(op.kind);
  const std::vector<at::Tensor> forward = kernel.forward(context, inputs, {});
  expect_statistics(context, forward);
  const Kernel::BackwardInputs in = backward_inputs(op, output_gradients, inputs, forward);
  KernelResults results;
  if (definition_of(op.kind).splits_backward) {
    results.input_gradients = kernel.backward_input(context, in);
    kernel.backward_weight(context, in);
  } else {
    results.input_gradients = kernel.backward(context, in, /*needs_input=*/true);
  }
  EXPECT_EQ(results.input_gradients.size(), inputs.size());
  results.outputs.assign(forward.begin(),
                         forward.begin() + static_cast<std::ptrdiff_t>(op.outputs.size()));
  for (const at::Tensor& accumulator : context.parameter_gradients) {
    results.parameter_gradients.push_back(accumulator - 1);
  }
  for (const at::Tensor& tensor : results.outputs) {
    EXPECT_TRUE(tensor.is_contiguous());
  }
  for (const at::Tensor& tensor : results.input_gradients) {
    EXPECT_TRUE(!tensor.defined() || tensor.is_contiguous());
  }
  return results;
}

at::Tensor accumulator_like(const at::Tensor& parameter) {
  return at::ones(
      parameter.sizes(),
      at::TensorOptions(parameter.scalar_type() == at::kDouble ? at::kDouble : at::kFloat));
}

at::Tensor part(at::Tensor tensor, const Box& box) {
  for (std::size_t d = 0; d < box.begin.size(); ++d) {
    tensor = tensor.narrow(static_cast<std::int64_t>(d), box.begin[d], box.end[d] - box.begin[d]);
  }
  return tensor;
}

// The part of a local shard that is not padding.
at::Tensor real_part(const at::Tensor& local, const Box& box) {
  Box inner = box;
  for (std::size_t d = 0; d < box.begin.size(); ++d) {
    inner.begin[d] = 0;
    inner.end[d] = box.end[d] - box.begin[d];
  }
  return part(local, inner);
}

at::Tensor shard(const at::Tensor& whole,
                 const Layout& layout,
                 const Mesh& mesh,
                 const MeshCoordinates& coordinates,
                 double padding) {
  const std::vector<std::int64_t> shape = whole.sizes().vec();
  const Box box = shard_box(shape, layout, mesh, coordinates);
  at::Tensor local =
      at::full(local_shape(shape, layout, mesh), padding, whole.options().requires_grad(false));
  real_part(local, box).copy_(part(whole, box));
  return local;
}

// Puts a tensor together from its shards: partial ones are added, replicated ones must be equal.
at::Tensor assembled(const std::vector<at::Tensor>& shards,
                     const std::vector<std::int64_t>& shape,
                     const Layout& layout,
                     const Mesh& mesh) {
  if (!shards[0].defined()) {
    return {};
  }
  at::Tensor whole = at::zeros(shape, shards[0].options());
  for (int rank = 0; rank < mesh.devices(); ++rank) {
    const MeshCoordinates coordinates = coordinates_of(mesh, rank);
    MeshCoordinates first = coordinates;
    for (std::size_t m = 0; m < kMeshAxes; ++m) {
      if (layout[m].kind == AxisLayout::Kind::kReplicate) {
        first[m] = 0;
      }
    }
    if (first == coordinates) {
      const Box box = shard_box(shape, layout, mesh, coordinates);
      part(whole, box).add_(real_part(shards[at_index(rank)], box));
    } else {
      EXPECT_TRUE(shards[at_index(rank)].equal(shards[at_index(index_of(mesh, first))]))
          << "replicas differ in layout " << to_string(layout);
    }
  }
  return whole;
}

// This rank's group along each mesh axis.
struct MeshGroups {
  std::vector<std::unique_ptr<CommunicationGroup>> owned;
  std::array<CommunicationGroup*, kMeshAxes> of_axis{nullptr, nullptr, nullptr};

  MeshGroups(Communicator& communicator, const Mesh& mesh) {
    for (std::size_t m = 0; m < kMeshAxes; ++m) {
      for (int start = 0; start < mesh.devices() && mesh.sizes[m] > 1; ++start) {
        MeshCoordinates coordinates = coordinates_of(mesh, start);
        if (coordinates[m] != 0) {
          continue;
        }
        std::vector<int> ranks;
        for (; coordinates[m] < mesh.sizes[m]; ++coordinates[m]) {
          ranks.push_back(index_of(mesh, coordinates));
        }
        std::unique_ptr<CommunicationGroup> group = communicator.make_group(ranks);
        if (group != nullptr) {
          of_axis[m] = group.get();
          owned.push_back(std::move(group));
        }
      }
    }
  }
};

constexpr double kPadding = 7;

KernelResults run_rank(const KernelCase& subject,
                       const Operands& operands,
                       const Mesh& mesh,
                       const AxisAssignment& assignment,
                       Communicator& communicator) {
  const Op& op = subject.subject();
  const MeshGroups groups(communicator, mesh);
  KernelContext context = whole_context(subject, operands);
  context.assignment = assignment;
  context.mesh = mesh;
  context.coordinates = coordinates_of(mesh, communicator.rank());
  context.sizes = local_axis_sizes(op, assignment, mesh);
  context.groups = groups.of_axis;
  const auto local = [&](const at::Tensor& whole, const Layout& layout, double padding) {
    return shard(whole, layout, mesh, context.coordinates, padding);
  };
  for (std::size_t p = 0; p < op.parameters.size(); ++p) {
    context.parameters[p] = local(
        operands.parameters[p], input_layout(op, op.parameters[p], assignment, mesh), kPadding);
    context.parameter_gradients[p] = accumulator_like(context.parameters[p]);
  }
  std::vector<at::Tensor> inputs;
  for (std::size_t i = 0; i < op.inputs.size(); ++i) {
    inputs.push_back(
        local(operands.inputs[i], input_layout(op, op.inputs[i], assignment, mesh), kPadding));
  }
  std::vector<at::Tensor> gradients;
  for (std::size_t o = 0; o < operands.output_gradients.size(); ++o) {
    const Layout layout = output_layout(op, op.outputs[o], assignment, mesh);
    gradients.push_back(local(operands.output_gradients[o], required_gradient_layout(layout), 0));
  }
  return run(context, inputs, gradients);
}

at::Tensor loss_of(const std::vector<at::Tensor>& outputs, const Operands& operands) {
  if (operands.output_gradients.empty()) {
    return outputs[0];
  }
  at::Tensor loss;
  for (std::size_t o = 0; o < operands.output_gradients.size(); ++o) {
    const at::Tensor term = (outputs[o] * operands.output_gradients[o]).sum();
    loss = loss.defined() ? loss + term : term;
  }
  return loss;
}

KernelResults run_reference(const KernelCase& subject, const Operands& operands) {
  const auto leaves = [](const std::vector<at::Tensor>& tensors) {
    std::vector<at::Tensor> result;
    for (const at::Tensor& tensor : tensors) {
      result.push_back(tensor.clone());
      if (tensor.is_floating_point()) {
        result.back().requires_grad_();
      }
    }
    return result;
  };
  const auto gradients = [](const std::vector<at::Tensor>& tensors) {
    std::vector<at::Tensor> result;
    for (const at::Tensor& tensor : tensors) {
      result.push_back(!tensor.is_floating_point() ? at::Tensor()
                       : tensor.grad().defined()   ? tensor.grad()
                                                   : at::zeros_like(tensor));
    }
    return result;
  };
  const std::vector<at::Tensor> inputs = leaves(operands.inputs);
  const std::vector<at::Tensor> parameters = leaves(operands.parameters);
  KernelResults results;
  results.outputs = subject.reference(inputs, parameters);
  loss_of(results.outputs, operands).backward();
  results.input_gradients = gradients(inputs);
  results.parameter_gradients = gradients(parameters);
  return results;
}

Operands converted(const Operands& operands, at::ScalarType type) {
  const auto convert = [type](const std::vector<at::Tensor>& tensors) {
    std::vector<at::Tensor> result;
    for (const at::Tensor& tensor : tensors) {
      result.push_back(tensor.is_floating_point() ? tensor.to(type) : tensor);
    }
    return result;
  };
  return {
      convert(operands.inputs), convert(operands.parameters), convert(operands.output_gradients)};
}

void expect_equal_tensors(const char* what,
                          const std::vector<at::Tensor>& found,
                          const std::vector<at::Tensor>& expected,
                          double tolerance) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE(std::string(what) + " " + std::to_string(i));
    ASSERT_LT(i, found.size());
    ASSERT_EQ(found[i].defined(), expected[i].defined());
    if (expected[i].defined()) {
      expect_close(found[i], expected[i], tolerance);
    }
  }
}

void check_finite_difference(const KernelCase& subject,
                             const Operands& operands,
                             const at::Tensor& changed,
                             const at::Tensor& gradient) {
  constexpr double kStep = 1e-6;
  constexpr std::int64_t kMostElements = 24;
  const at::Tensor flat = changed.view({-1});
  const at::Tensor flat_gradient = gradient.reshape({-1});
  const std::int64_t stride = std::max<std::int64_t>(flat.numel() / kMostElements, 1);
  const auto loss = [&] {
    const KernelContext context = whole_context(subject, operands);
    return loss_of(kernel_of(context.op->kind).forward(context, operands.inputs, {}), operands)
        .item<double>();
  };
  for (std::int64_t i = 0; i < flat.numel(); i += stride) {
    const double value = flat[i].item<double>();
    flat[i].fill_(value + kStep);
    const double above = loss();
    flat[i].fill_(value - kStep);
    const double below = loss();
    flat[i].fill_(value);
    const double expected = (above - below) / (2 * kStep);
    EXPECT_NEAR(flat_gradient[i].item<double>(), expected, 1e-6 * std::max(1.0, std::abs(expected)))
        << "element " << i;
  }
}

}  // namespace

Operands random_operands(const KernelCase& subject, at::ScalarType type, std::uint64_t seed) {
  at::manual_seed(seed);
  const Op& op = subject.subject();
  // Drawn in double, so that all types get the same numbers.
  const auto floating = [type](const Tensor& tensor) {
    return at::randn(tensor.shape, at::TensorOptions(at::kDouble)).to(type);
  };
  Operands operands;
  for (const Operand& input : op.inputs) {
    const Tensor& tensor = tensor_of(subject, input);
    operands.inputs.push_back(is_integer(tensor) ? random_integers(subject, tensor)
                                                 : floating(tensor));
  }
  for (const Operand& parameter : op.parameters) {
    operands.parameters.push_back(floating(tensor_of(subject, parameter)));
  }
  for (const Operand& output : op.outputs) {
    const Tensor& tensor = tensor_of(subject, output);
    if (!is_integer(tensor) && tensor.kind != TensorKind::kLoss) {
      operands.output_gradients.push_back(floating(tensor));
    }
  }
  return operands;
}

KernelContext whole_context(const KernelCase& subject, const Operands& operands) {
  KernelContext context;
  const Op& op = subject.subject();
  context.op = &op;
  context.sizes = local_axis_sizes(op, context.assignment, context.mesh);
  context.parameters = operands.parameters;
  for (const at::Tensor& parameter : operands.parameters) {
    context.parameter_gradients.push_back(accumulator_like(parameter));
  }
  context.context_chunks = subject.context_chunks;
  context.sequence = op.axes[at_index(axis_index(op, "s"))].size;
  context.loss_scale = kTestLossScale;
  return context;
}

KernelResults run_whole(const KernelCase& subject, const Operands& operands) {
  return run(whole_context(subject, operands), operands.inputs, operands.output_gradients);
}

KernelResults run_sharded(const KernelCase& subject,
                          const Operands& operands,
                          const Mesh& mesh,
                          const AxisAssignment& assignment) {
  const Op& op = subject.subject();
  std::vector<KernelResults> ranks(at_index(mesh.devices()));
  run_as_threads(mesh.devices(), [&](Communicator& communicator) {
    ranks[at_index(communicator.rank())] =
        run_rank(subject, operands, mesh, assignment, communicator);
  });
  const auto gathered = [&](auto member,
                            const std::vector<Operand>& group,
                            auto layout_of,
                            const std::vector<at::Tensor>* like) {
    std::vector<at::Tensor> result;
    for (std::size_t i = 0; i < group.size(); ++i) {
      std::vector<at::Tensor> shards;
      for (const KernelResults& rank : ranks) {
        shards.push_back((rank.*member)[i]);
      }
      const std::vector<std::int64_t> shape =
          like != nullptr ? (*like)[i].sizes().vec() : tensor_of(subject, group[i]).shape;
      result.push_back(assembled(shards, shape, layout_of(op, group[i], assignment, mesh), mesh));
    }
    return result;
  };
  KernelResults results;
  results.outputs = gathered(&KernelResults::outputs, op.outputs, output_layout, nullptr);
  results.input_gradients =
      gathered(&KernelResults::input_gradients, op.inputs, gradient_layout, &operands.inputs);
  results.parameter_gradients = gathered(
      &KernelResults::parameter_gradients, op.parameters, gradient_layout, &operands.parameters);
  return results;
}

PayloadCounts payload_of_sharded_run(const KernelCase& subject,
                                     const Operands& operands,
                                     const Mesh& mesh,
                                     const AxisAssignment& assignment) {
  PayloadCounts counts;
  run_as_threads(mesh.devices(), [&](Communicator& communicator) {
    run_rank(subject, operands, mesh, assignment, communicator);
    if (communicator.rank() == 0) {
      counts = communicator.payload();
    }
  });
  return counts;
}

void expect_close(const at::Tensor& found, const at::Tensor& expected, double tolerance) {
  ASSERT_EQ(found.sizes(), expected.sizes());
  const double scale = expected.to(at::kDouble).norm().item<double>();
  const double difference =
      (found.to(at::kDouble) - expected.to(at::kDouble)).norm().item<double>();
  EXPECT_LE(difference, tolerance * std::max(scale, 1e-2));
}

void expect_equal_results(const KernelResults& found,
                          const KernelResults& expected,
                          double tolerance) {
  expect_equal_tensors("output", found.outputs, expected.outputs, tolerance);
  expect_equal_tensors(
      "gradient of input", found.input_gradients, expected.input_gradients, tolerance);
  expect_equal_tensors(
      "gradient of parameter", found.parameter_gradients, expected.parameter_gradients, tolerance);
}

void expect_agrees_with_autograd(const KernelCase& subject) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    SCOPED_TRACE(c10::toString(type));
    const Operands operands = random_operands(subject, type);
    expect_equal_results(run_whole(subject, operands),
                         run_reference(subject, operands),
                         type == at::kFloat ? 1e-5 : 1e-12);
  }
  SCOPED_TRACE("bf16");
  const Operands operands = random_operands(subject, at::kBFloat16);
  expect_equal_results(
      run_whole(subject, operands), run_reference(subject, converted(operands, at::kFloat)), 2e-2);
}

void expect_agrees_with_finite_differences(const KernelCase& subject) {
  const Operands operands = random_operands(subject, at::kDouble, /*seed=*/2);
  const KernelResults results = run_whole(subject, operands);
  for (std::size_t i = 0; i < operands.inputs.size(); ++i) {
    if (operands.inputs[i].is_floating_point()) {
      SCOPED_TRACE("input " + std::to_string(i));
      check_finite_difference(subject, operands, operands.inputs[i], results.input_gradients[i]);
    }
  }
  for (std::size_t p = 0; p < operands.parameters.size(); ++p) {
    SCOPED_TRACE("parameter " + std::to_string(p));
    check_finite_difference(
        subject, operands, operands.parameters[p], results.parameter_gradients[p]);
  }
}

void expect_overwrites_accumulators(const KernelCase& subject) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(c10::toString(type));
    const Operands operands = random_operands(subject, type, /*seed=*/3);
    KernelContext context = whole_context(subject, operands);
    context.accumulate = false;
    for (at::Tensor& accumulator : context.parameter_gradients) {
      accumulator.fill_(std::numeric_limits<double>::quiet_NaN());
    }
    const KernelResults found = run(context, operands.inputs, operands.output_gradients);
    const KernelResults expected = run_whole(subject, operands);
    for (std::size_t p = 0; p < operands.parameters.size(); ++p) {
      expect_close(found.parameter_gradients[p] + 1, expected.parameter_gradients[p], 1e-5);
    }
  }
}

void expect_sharding_changes_nothing(const KernelCase& subject) {
  const Op& op = subject.subject();
  const Operands operands = random_operands(subject, at::kDouble, /*seed=*/4);
  const KernelResults expected = run_whole(subject, operands);
  const auto axes = static_cast<int>(op.axes.size());
  int tried = 0;
  for (const Mesh& mesh : {Mesh{{1, 2, 1}}, Mesh{{2, 2, 1}}, Mesh{{1, 2, 2}}}) {
    for (int code = 1; code < (axes + 1) * (axes + 1); ++code) {
      const std::array<int, 2> axis{code % (axes + 1) - 1, code / (axes + 1) - 1};
      AxisAssignment assignment{kUnassigned, kUnassigned, kUnassigned};
      assignment[1] = static_cast<std::int8_t>(axis[0]);
      assignment[mesh.sizes[0] > 1 ? 0 : 2] = static_cast<std::int8_t>(axis[1]);
      if (!is_valid_assignment(op, assignment, mesh)) {
        continue;
      }
      SCOPED_TRACE(to_string(mesh) + ": axes " +
                   (axis[0] < 0 ? "-" : op.axes[at_index(axis[0])].name) + ", " +
                   (axis[1] < 0 ? "-" : op.axes[at_index(axis[1])].name));
      expect_equal_results(run_sharded(subject, operands, mesh, assignment), expected, 1e-12);
      ++tried;
    }
  }
  EXPECT_GT(tried, 0) << "no valid assignment: the case tests nothing";
}

void expect_correct_kernel(const KernelCase& subject) {
  expect_agrees_with_autograd(subject);
  expect_agrees_with_finite_differences(subject);
  expect_overwrites_accumulators(subject);
  if (element_count(tensor_of(subject, subject.subject().inputs[0]).shape) > 0) {
    expect_sharding_changes_nothing(subject);
  }
}

}  // namespace shardwise::testing
