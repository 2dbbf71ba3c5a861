#include "simulate/pass_times.h"

#include <algorithm>
#include <map>
#include <set>

#include "graph/layer_body.h"
#include "graph/redistribution.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

class PassTimer {
 public:
  PassTimer(const Plan& plan, const Graph& graph, const Cluster& cluster, const CostTable& costs)
      : plan_(plan), graph_(graph), cluster_(cluster), costs_(costs) {}

  PassTimes time(int k) {
    const VirtualStage place = virtual_stage(plan_, k);
    stage_ = &plan_.stages[at(place.stage)];
    const ChunkPlan& chunk = stage_->chunks[at(place.chunk)];
    PassTimes times{0, 0, 0, 0, 0};
    double kept = 0;
    double kept_for_weights = 0;
    for (int layer = chunk.first_layer; layer < chunk.end_layer(); ++layer) {
      const LayerBody body = make_layer_body(graph_, plan_, layer);
      add_steps(body, body.forward, layer, times.forward, times.forward);
      add_steps(body, body.recompute, layer, times.input, times.input);
      add_steps(body, body.backward, layer, times.input, times.weight);
      kept += static_cast<double>(body.saved_bytes().count);
      kept_for_weights += bytes_for_weights(body);
    }
    times.weight_memory = kept > 0 ? std::min(1.0, kept_for_weights / kept) : 1.0;
    times.transfer = transfer(k);
    return times;
  }

 private:
  void add_steps(const LayerBody& body,
                 const std::vector<LayerStep>& steps,
                 int layer,
                 double& time,
                 double& weight_time) {
    const Block& block = graph_.block_of(layer);
    const LayerPlan& plan = layer_plan(plan_, place_of(plan_, layer));
    for (const LayerStep& step : steps) {
      switch (step.kind) {
        case LayerStep::Kind::kOp: {
          const bool is_weight = step.direction == Direction::kBackwardWeight;
          (is_weight ? weight_time : time) +=
              kernel(block.ops[at(step.op)], plan.op_axes[at(step.op)], step.direction);
          break;
        }
        case LayerStep::Kind::kCollective: {
          if (step.collective.kind == CollectiveKind::kSlice) {
            break;
          }
          const ElementType type = body.values[at(step.reads[0])].type;
          const Bytes payload = collective_payload(
              step.collective, stage_->mesh, element_bytes(type, plan_.precision));
          time += collective(step.collective.kind, payload, step.collective.mesh_axis);
          break;
        }
        case LayerStep::Kind::kAccumulate:
          time += slowest([&](int device_type) {
            return costs_.accumulate_time(body.values[at(step.writes[0])].bytes, device_type);
          });
          break;
      }
    }
  }

  double kernel(const Op& op, const AxisAssignment& assignment, Direction direction) {
    const std::vector<std::int64_t> sizes = local_axis_sizes(op, assignment, stage_->mesh);
    double time = slowest([&](int device_type) {
      return costs_.op_time(op, sizes, direction, plan_.precision, device_type);
    });
    for (const InternalCollective& inside : definition_of(op.kind).internal_collectives(
             op,
             assignment,
             stage_->mesh,
             direction,
             element_bytes(ElementType::kCompute, plan_.precision))) {
      time += collective(inside.kind, inside.payload, inside.mesh_axis);
    }
    return time;
  }

  double collective(CollectiveKind kind, Bytes payload, int mesh_axis) const {
    if (payload.count == 0) {
      return 0;
    }
    const GroupPlacement where =
        placement_of(cluster_, stage_->devices, stage_->mesh, 1U << mesh_axis);
    return costs_.collective_time(kind, payload, plan_.precision, where).time.count;
  }

  template <typename Ask>
  double slowest(Ask ask) const {
    std::set<int> types;
    for (const int device : stage_->devices) {
      types.insert(cluster_.type_of(device));
    }
    double most = 0;
    for (const int type : types) {
      most = std::max(most, ask(type).time.count);
    }
    return most;
  }

  static double bytes_for_weights(const LayerBody& body) {
    std::set<ValueId> read;
    for (const LayerStep& step : body.backward) {
      if (step.kind == LayerStep::Kind::kOp && step.direction == Direction::kBackwardWeight) {
        read.insert(step.reads.begin(), step.reads.end());
      }
    }
    double bytes = 0;
    for (const ValueId value : read) {
      bytes += static_cast<double>(body.values[at(value)].bytes.count);
    }
    return bytes;
  }

  double transfer(int k) const {
    if (k + 1 == plan_.num_stages() * plan_.num_chunks()) {
      return 0;
    }
    const VirtualStage next = virtual_stage(plan_, k + 1);
    const StagePlan& next_stage = plan_.stages[at(next.stage)];
    const ChunkPlan& sends = stage_->chunks[at(virtual_stage(plan_, k).chunk)];
    const Block& block = graph_.block_of(sends.end_layer() - 1);
    const Tensor& tensor = block.tensors[at(block.outputs[0])];
    const TensorPlacement here{sends.output_layout, stage_->mesh, stage_->devices};
    const TensorPlacement there{next_stage.chunks[at(next.chunk)].layers.front().input_layout,
                                next_stage.mesh,
                                next_stage.devices};
    const std::int64_t element = element_bytes(tensor.type, plan_.precision);
    return std::max(slowest_device(redistribution(tensor.shape, here, there), element),
                    slowest_device(redistribution(tensor.shape, there, here), element));
  }

  double slowest_device(const std::vector<RedistributionMessage>& messages,
                        std::int64_t element) const {
    std::map<int, std::int64_t> bytes;  // received
    int level = 0;
    for (const RedistributionMessage& message : messages) {
      if (message.from_device != message.to_device) {
        bytes[message.to_device] += message.global_box.elements() * element;
        level = std::max(level, level_between(cluster_, message.from_device, message.to_device));
      }
    }
    std::int64_t most = 0;
    for (const auto& [device, count] : bytes) {
      most = std::max(most, count);
    }
    return most == 0 ? 0 : costs_.transfer_time(Bytes(most), level, 1).time.count;
  }

  const Plan& plan_;
  const Graph& graph_;
  const Cluster& cluster_;
  const CostTable& costs_;
  const StagePlan* stage_ = nullptr;
};

}  // namespace

std::vector<PassTimes> pass_times(const Plan& plan,
                                  const Graph& graph,
                                  const Cluster& cluster,
                                  const CostTable& costs) {
  PassTimer timer(plan, graph, cluster, costs);
  std::vector<PassTimes> times;
  const int stages = plan.num_stages() * plan.num_chunks();
  times.reserve(static_cast<std::size_t>(stages));
  for (int k = 0; k < stages; ++k) {
    times.push_back(timer.time(k));
  }
  return times;
}

}  // namespace shardwise
