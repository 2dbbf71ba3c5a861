#include "lower/deadlock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shardwise {
namespace {

using ::testing::HasSubstr;

// Writes small programs: messages of one byte, collectives on the groups given.
class Writer {
 public:
  explicit Writer(int rank, std::vector<std::vector<int>> groups = {}) {
    program_.rank = rank;
    program_.stage = rank;
    program_.groups = std::move(groups);
    program_.buffers.emplace_back();
  }

  int post(bool sends, int peer, int tag) {
    program_.transfers.push_back({sends, peer, tag, 0, {{0}, {1}}, Bytes(1)});
    const int transfer = static_cast<int>(program_.transfers.size()) - 1;
    add(sends ? InstructionKind::kPostSend : InstructionKind::kPostReceive).transfer = transfer;
    return transfer;
  }
  int send(int peer, int tag) { return post(true, peer, tag); }
  int receive(int peer, int tag) { return post(false, peer, tag); }
  void wait(int transfer) { add(InstructionKind::kWait).transfer = transfer; }
  void collective(int group) {
    Instruction& instruction = add(InstructionKind::kCollective);
    instruction.collective.kind = CollectiveKind::kAllReduce;
    instruction.group = group;
  }
  // A reduction over `group` on the communication thread.
  void reduce(int group) {
    LocalParameter parameter;
    parameter.group = group;
    parameter.reduction_degree = 2;
    program_.parameters.push_back(parameter);
    add(InstructionKind::kReduceGradients).parameters = {
        static_cast<int>(program_.parameters.size()) - 1};
  }
  void wait_reductions() { add(InstructionKind::kWaitReductions); }

  Program take() { return std::move(program_); }

 private:
  Instruction& add(InstructionKind kind) {
    Instruction& instruction = program_.instructions.emplace_back();
    instruction.kind = kind;
    return instruction;
  }

  Program program_;
};

TEST(Deadlock, SendsWaitedForBeforeTheOtherSideReceivesHang) {
  // Both ranks send and wait, then receive: the 1F1B steady state with a wait after each send.
  std::vector<Program> programs;
  for (int rank = 0; rank < 2; ++rank) {
    Writer writer(rank);
    writer.wait(writer.send(1 - rank, 0));
    writer.wait(writer.receive(1 - rank, 0));
    programs.push_back(writer.take());
  }
  const std::optional<std::string> deadlock = find_deadlock(programs);
  ASSERT_TRUE(deadlock.has_value());
  EXPECT_THAT(*deadlock, HasSubstr("rank 0 stands at instruction 1 (wait"));
  EXPECT_THAT(*deadlock, HasSubstr("rank 1 stands at instruction 1 (wait"));
  EXPECT_THAT(*deadlock, HasSubstr("where the circle closes"));
}

TEST(Deadlock, SendsWaitedForAfterBothReceivesArePostedDoNot) {
  std::vector<Program> programs;
  for (int rank = 0; rank < 2; ++rank) {
    Writer writer(rank);
    const int sent = writer.send(1 - rank, 0);
    const int received = writer.receive(1 - rank, 0);
    writer.wait(sent);
    writer.wait(received);
    programs.push_back(writer.take());
  }
  EXPECT_EQ(find_deadlock(programs), std::nullopt);
}

TEST(Deadlock, MessageThatNobodySendsIsFound) {
  Writer first(0);
  first.wait(first.receive(1, 3));
  Writer second(1);
  second.wait(second.send(0, 4));  // another tag
  const std::vector<Program> programs = {first.take(), second.take()};
  EXPECT_THAT(find_deadlock(programs).value_or(""), HasSubstr("waits for rank 1"));
}

TEST(Deadlock, RankThatHasEndedIsNamed) {
  Writer first(0);
  first.wait(first.receive(1, 0));
  const std::vector<Program> programs = {first.take(), Writer(1).take()};
  EXPECT_THAT(find_deadlock(programs).value_or(""), HasSubstr("rank 1, which has ended"));
}

TEST(Deadlock, CollectivesInOppositeOrderHang) {
  // Groups {0, 1} and {0, 1, 2}: rank 0 takes them in one order, rank 1 in the other.
  const std::vector<std::vector<int>> groups = {{0, 1}, {0, 1, 2}};
  Writer first(0, groups);
  first.collective(0);
  first.collective(1);
  Writer second(1, groups);
  second.collective(1);
  second.collective(0);
  Writer third(2, {{0, 1, 2}});
  third.collective(0);
  const std::vector<Program> programs = {first.take(), second.take(), third.take()};
  EXPECT_THAT(find_deadlock(programs).value_or(""), HasSubstr("all-reduce over ranks 0 1"));
}

TEST(Deadlock, ReductionsRunBesideMessages) {
  // Rank 0 starts its reduction before the message, rank 1 after it: nobody waits for the start.
  Writer first(0, {{0, 1}});
  first.reduce(0);
  first.wait(first.receive(1, 0));
  first.wait_reductions();
  Writer second(1, {{0, 1}});
  second.wait(second.send(0, 0));
  second.reduce(0);
  second.wait_reductions();
  const std::vector<Program> programs = {first.take(), second.take()};
  EXPECT_EQ(find_deadlock(programs), std::nullopt);
}

TEST(Deadlock, ReductionsInOppositeOrderHang) {
  const std::vector<std::vector<int>> groups = {{0, 1}, {0, 1, 2}};
  std::vector<Program> programs;
  for (int rank = 0; rank < 3; ++rank) {
    Writer writer(rank, groups);
    if (rank == 0) {
      writer.reduce(0);
    }
    writer.reduce(1);
    if (rank == 1) {
      writer.reduce(0);
    }
    writer.wait_reductions();
    programs.push_back(writer.take());
  }
  EXPECT_THAT(find_deadlock(programs).value_or(""), HasSubstr("wait for reductions"));
}

}  // namespace
}  // namespace shardwise
