// Ranks that a replay cannot tell apart. Internal to simulate.
//
// Two ranks are alike if they run the same stage on the same type of device at the same speed, and
// if what surrounds them is alike: their groups along each mesh axis, the ends of their messages in
// order, the ranks of their node. This is the coarsest equitable partition: classes start from what
// a rank is and are split until all members of a class see the same classes around them (colour
// refinement). A deterministic replay then gives all members of a class the same times, so one of
// them can stand for all.
#pragma once

#include <map>
#include <utility>
#include <vector>

#include "simulate/group_extent.h"
#include "simulate/simulate.h"

namespace shardwise::internal {

// The messages of one direction of a boundary or of a tie: 2 k and 2 k + 1 forward and backward
// between virtual stages k and k + 1; for ties by Graph::tied index, gradients and values.
struct PassageId {
  int kind = 0;  // 0: boundary, 1: tied gradient, 2: tied values
  int number = 0;

  auto operator<=>(const PassageId&) const = default;
};

class RankClasses {
 public:
  RankClasses(const Plan& plan,
              const Graph& graph,
              const Cluster& cluster,
              const SimulationOptions& options);

  int count() const { return static_cast<int>(representatives_.size()); }
  int class_of(int rank) const { return class_of_[static_cast<std::size_t>(rank)]; }
  int representative(int index) const {
    return representatives_[static_cast<std::size_t>(index)];  // its lowest rank
  }
  int size(int index) const { return sizes_[static_cast<std::size_t>(index)]; }

  // Class of the sender of the `ordinal`-th message that a rank receives in a passage, and which of
  // the sender's messages it is.
  std::pair<int, int> sender_of(int rank, PassageId passage, int ordinal) const;

  // How many ranks of each class share a node with a member of this one, itself included.
  const std::vector<std::pair<int, int>>& node_mix(int index) const {
    return node_mixes_[static_cast<std::size_t>(index)];
  }

 private:
  struct End {
    PassageId passage;
    bool sends = false;
    int ordinal = 0;
    int peer = 0;
    int peer_ordinal = 0;
    std::int64_t bytes = 0;
  };

  void add_messages(PassageId passage,
                    const std::vector<RedistributionMessage>& messages,
                    std::int64_t element);
  void add_passages();
  void label_ranks(const SimulationOptions& options);
  std::vector<GroupExtent> extents_of_groups(int rank);
  bool refine();
  void number_classes();
  void count_nodes();

  const Plan& plan_;
  const Graph& graph_;
  const Cluster& cluster_;
  std::vector<int> ranks_;     // used ones, ascending
  std::vector<int> class_of_;  // by rank; -1: not used
  std::vector<int> stage_of_;
  std::vector<int> index_in_stage_;
  std::vector<std::vector<End>> ends_;  // by rank
  // [{stage, axes}][first member]
  std::map<std::pair<int, unsigned>, std::map<int, GroupExtent>> extents_;
  std::vector<int> representatives_;
  std::vector<int> sizes_;
  std::vector<std::vector<std::pair<int, int>>> node_mixes_;
};

}  // namespace shardwise::internal
