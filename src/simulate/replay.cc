// How the replay works: an actor walks its script for as long as nobody else matters, that is up to
// the next meeting or message; there it stops and comes back as an event at that time, so that
// everything that actors do to each other happens in the order of time. Events of one time are
// taken in the order of kind and number.
//
// Vocabulary: an actor is *busy* while it computes or takes part in a collective and *idle* while
// it waits for others; a reduction is *under way* from the arrival of its last member.
#include "simulate/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <queue>
#include <tuple>

#include "core/errors.h"

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

struct Event {
  enum class Kind { kMessageEnd, kReductionEnd, kResume };
  Picoseconds time{0};
  Kind kind = Kind::kResume;
  int id = 0;  // message, meeting, actor
  std::uint32_t version = 0;

  bool operator>(const Event& other) const {
    return std::tie(time, kind, id, version) >
           std::tie(other.time, other.kind, other.id, other.version);
  }
};

class Replay {
 public:
  Replay(const Cast& cast, InstructionPrices& prices)
      : cast_(cast),
        network_(prices, cast.node_mixes),
        actors_(cast.roles.size()),
        meetings_(cast.meetings.size()),
        waiting_for_message_(cast.messages.size()) {
    for (const Message& message : cast.messages) {
      network_.add(message);
    }
    for (std::size_t a = 0; a < actors_.size(); ++a) {
      const Script& script = cast.roles[a].script;
      phi_.push_back(prices.overlap_fraction(script.device_type));
    }
  }

  ReplayResult run() {
    for (int a = 0; a < static_cast<int>(actors_.size()); ++a) {
      events_.push({Picoseconds(0), Event::Kind::kResume, a, 0});
    }
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.time;
      switch (event.kind) {
        case Event::Kind::kMessageEnd:
          end_message(event);
          break;
        case Event::Kind::kReductionEnd:
          end_reduction(event);
          break;
        case Event::Kind::kResume:
          walk(event.id);
          break;
      }
      for (const Network::End& end : network_.take_new_ends()) {
        events_.push({end.time, Event::Kind::kMessageEnd, end.message, end.version});
      }
    }
    return take_result();
  }

 private:
  struct Pending {  // a reduction that has been started
    int meeting = 0;
    Picoseconds duration{0};
    std::size_t step = 0;
  };
  struct Actor {
    std::size_t next = 0;  // step
    Picoseconds clock{0};
    bool is_busy = false;
    bool waits_for_reductions = false;
    bool has_begun = false;
    std::deque<Pending> reductions;
    int reduction_under_way = -1;  // meeting
    ActorTimes times;
  };
  struct MeetingState {
    std::vector<int> present;
    Picoseconds duration{0};  // the longest that a member brought
    // Of a reduction under way.
    bool is_under_way = false;
    double left = 1;
    double rate = 1;
    int busy_members = 0;
    Picoseconds updated{0};
    Picoseconds begin{0};
    std::uint32_t version = 0;
  };

  const Role& role(int a) const { return cast_.roles[at(a)]; }
  const std::vector<int>& members(int meeting) const { return cast_.meetings[at(meeting)]; }
  bool has_ended(int a) const { return actors_[at(a)].next == role(a).script.steps.size(); }

  // --- walking ----------------------------------------------------------------------------------

  void set_busy(int a, bool is_busy) {
    Actor& actor = actors_[at(a)];
    if (actor.is_busy == is_busy) {
      return;
    }
    actor.is_busy = is_busy;
    if (actor.reduction_under_way >= 0) {
      advance_reduction(actor.reduction_under_way);
      meetings_[at(actor.reduction_under_way)].busy_members += is_busy ? 1 : -1;
      set_rate(actor.reduction_under_way);
    }
  }

  void walk(int a) {
    Actor& actor = actors_[at(a)];
    const Script& script = role(a).script;
    actor.clock = now_;
    set_busy(a, true);
    while (actor.next < script.steps.size()) {
      const Step& step = script.steps[actor.next];
      if (step.kind == StepKind::kWork) {
        work(a, step);
        ++actor.next;
        continue;
      }
      if (actor.clock > now_) {
        events_.push({actor.clock, Event::Kind::kResume, a, 0});
        return;
      }
      if (!do_step(a, step)) {
        return;
      }
      sample_memory(a, actor.next, now_);
      ++actor.next;
    }
    actor.times.end = actor.clock;
    if (actor.clock > now_) {
      events_.push({actor.clock, Event::Kind::kResume, a, 0});  // busy until then
    } else {
      set_busy(a, false);
    }
  }

  void work(int a, const Step& step) {
    Actor& actor = actors_[at(a)];
    const Picoseconds begin = actor.clock;
    actor.clock += step.duration;
    actor.times.compute += step.duration;
    if (step.is_task && step.duration.count > 0) {
      actor.times.first_begin = actor.has_begun ? actor.times.first_begin : begin;
      actor.times.last_end = actor.clock;
      actor.times.task_compute += step.duration;
      actor.has_begun = true;
    }
    record(a, actor.next, begin, actor.clock);
    sample_memory(a, actor.next, actor.clock);
  }

  // Whether the actor may go on at once.
  bool do_step(int a, const Step& step) {
    Actor& actor = actors_[at(a)];
    switch (step.kind) {
      case StepKind::kPost:
        post(a, step);
        return true;
      case StepKind::kWait: {
        const int id = role(a).messages[at(step.index)];
        if (id >= 0 && network_.message(id).is_done) {
          return true;
        }
        set_busy(a, false);
        if (id >= 0) {
          waiting_for_message_[at(id)].push_back(a);
        }
        return false;
      }
      case StepKind::kMeet:
        set_busy(a, false);
        meet(role(a).meetings[at(step.index)], a, step.duration);
        return false;
      case StepKind::kReduce:
        actor.reductions.push_back({role(a).meetings[at(step.index)], step.duration, actor.next});
        if (actor.reductions.size() == 1) {
          join_reduction(a);
        }
        return true;
      case StepKind::kWaitReductions:
        actor.waits_for_reductions = !actor.reductions.empty();
        if (actor.waits_for_reductions) {
          set_busy(a, false);
        }
        return !actor.waits_for_reductions;
      case StepKind::kWork:
        break;
    }
    SHARDWISE_CHECK(false, "unknown step");
  }

  // The step at which the actor stands is over.
  void go_on(int a, Picoseconds time) {
    sample_memory(a, actors_[at(a)].next, time);
    ++actors_[at(a)].next;
    events_.push({time, Event::Kind::kResume, a, 0});
  }

  // --- messages ---------------------------------------------------------------------------------

  void post(int a, const Step& step) {
    const int id = role(a).messages[at(step.index)];
    if (id < 0) {
      return;
    }
    Message& message = network_.message(id);
    const bool sends = role(a).script.messages[at(step.index)].sends;
    (sends ? message.send_is_posted : message.receive_is_posted) = true;
    if (sends) {
      step_of_send_.resize(cast_.messages.size());
      step_of_send_[at(id)] = actors_[at(a)].next;
    }
    const bool is_buffered = role(a).script.sends_are_buffered;
    if (is_buffered ? sends : message.send_is_posted && message.receive_is_posted) {
      network_.become_ready(id, now_);
    }
  }

  void end_message(const Event& event) {
    const Message& message = network_.message(event.id);
    if (message.is_done || message.version != event.version) {
      return;
    }
    const Picoseconds begin = message.begin;
    const int from = message.from;
    network_.finish(event.id, now_);
    actors_[at(from)].times.point_to_point += now_ - begin;
    record(from, step_of_send_[at(event.id)], begin, now_);
    for (const int a : std::exchange(waiting_for_message_[at(event.id)], {})) {
      go_on(a, now_);
    }
  }

  // --- collectives ------------------------------------------------------------------------------

  // Whether everybody is there.
  bool arrive(int meeting, int a, Picoseconds duration) {
    MeetingState& state = meetings_[at(meeting)];
    state.duration = state.present.empty() ? duration : std::max(state.duration, duration);
    state.present.push_back(a);
    return state.present.size() == members(meeting).size();
  }

  void meet(int meeting, int a, Picoseconds duration) {
    if (!arrive(meeting, a, duration)) {
      return;
    }
    MeetingState& state = meetings_[at(meeting)];
    const Picoseconds end = now_ + state.duration;
    for (const int member : std::exchange(state.present, {})) {
      set_busy(member, true);
      actors_[at(member)].times.collectives += state.duration;
      record(member, actors_[at(member)].next, now_, end);
      go_on(member, end);
    }
  }

  void join_reduction(int a) {
    const Pending& pending = actors_[at(a)].reductions.front();
    if (!arrive(pending.meeting, a, pending.duration)) {
      return;
    }
    MeetingState& state = meetings_[at(pending.meeting)];
    state.is_under_way = true;
    state.left = 1;
    state.updated = now_;
    state.begin = now_;
    state.busy_members = 0;
    for (const int member : state.present) {
      actors_[at(member)].reduction_under_way = pending.meeting;
      state.busy_members += actors_[at(member)].is_busy ? 1 : 0;
    }
    set_rate(pending.meeting);
  }

  void advance_reduction(int meeting) {
    MeetingState& state = meetings_[at(meeting)];
    if (state.duration.count > 0) {
      state.left -= state.rate * ((now_ - state.updated) / state.duration);
      state.left = std::max(state.left, 0.0);
    }
    state.updated = now_;
  }

  void set_rate(int meeting) {
    MeetingState& state = meetings_[at(meeting)];
    double phi = 1;
    for (const int member : state.present) {
      phi = std::min(phi, phi_[at(member)]);
    }
    state.rate = state.busy_members > 0 ? phi : 1.0;
    ++state.version;
    if (state.rate <= 0) {
      return;  // until everybody waits
    }
    const double rest = state.left * static_cast<double>(state.duration.count) / state.rate;
    events_.push({now_ + Picoseconds(std::llround(rest)),
                  Event::Kind::kReductionEnd,
                  meeting,
                  state.version});
  }

  void end_reduction(const Event& event) {
    MeetingState& state = meetings_[at(event.id)];
    if (!state.is_under_way || state.version != event.version) {
      return;
    }
    state.is_under_way = false;
    ++state.version;
    const std::vector<int> present = std::exchange(state.present, {});
    for (const int a : present) {
      Actor& actor = actors_[at(a)];
      actor.times.collectives += now_ - state.begin;
      actor.times.reductions += now_ - state.begin;
      record(a, actor.reductions.front().step, state.begin, now_);
      actor.reductions.pop_front();
      actor.reduction_under_way = -1;
    }
    for (const int a : present) {
      Actor& actor = actors_[at(a)];
      if (!actor.reductions.empty()) {
        join_reduction(a);
      } else if (actor.waits_for_reductions) {
        actor.waits_for_reductions = false;
        go_on(a, now_);
      }
    }
  }

  // --- timeline ---------------------------------------------------------------------------------

  void record(int a, std::size_t step, Picoseconds begin, Picoseconds end) {
    const Script& script = role(a).script;
    if (script.labels.empty() || begin == end) {
      return;
    }
    Slice slice = script.labels[step].what;
    slice.is_reduction = script.steps[step].kind == StepKind::kReduce;
    slice.begin = begin;
    slice.end = end;
    result_.slices.push_back(slice);
  }

  void sample_memory(int a, std::size_t step, Picoseconds time) {
    const Script& script = role(a).script;
    if (!script.labels.empty()) {
      result_.memory.push_back(
          {script.rank, time, script.state + script.labels[step].memory_after});
    }
  }

  // --- the end ----------------------------------------------------------------------------------

  ReplayResult take_result() {
    for (int a = 0; a < static_cast<int>(actors_.size()); ++a) {
      if (!has_ended(a)) {
        result_.deadlock = describe_circle(a);
        return std::move(result_);
      }
    }
    for (const Actor& actor : actors_) {
      result_.times.push_back(actor.times);
    }
    return std::move(result_);
  }

  int missing_member(int meeting) const {
    const std::vector<int>& present = meetings_[at(meeting)].present;
    for (const int member : members(meeting)) {
      if (std::find(present.begin(), present.end(), member) == present.end()) {
        return member;
      }
    }
    SHARDWISE_CHECK(false, "a meeting with all its members goes on");
  }

  // Whom a standing actor waits for and why; an actor of -1: a rank without a program.
  std::pair<int, std::string> awaited(int a) const {
    const Actor& actor = actors_[at(a)];
    const Script& script = role(a).script;
    const Step& step = script.steps[actor.next];
    if (step.kind == StepKind::kWait) {
      const MessageEnd& end = script.messages[at(step.index)];
      const std::string what =
          fmt::format("{} rank {}{} (tag {})",
                      end.sends ? "a message to" : "a message from",
                      end.peer,
                      end.microbatch < 0 ? "" : fmt::format(", micro-batch {}", end.microbatch),
                      end.tag);
      const int id = role(a).messages[at(step.index)];
      if (id < 0) {
        return {-1, what};
      }
      const Message& message = network_.message(id);
      return {end.sends ? message.to : message.from, what};
    }
    const bool reduces = step.kind == StepKind::kWaitReductions;
    const int meeting =
        reduces ? actor.reductions.front().meeting : role(a).meetings[at(step.index)];
    const int whom = missing_member(meeting);
    return {whom,
            fmt::format("{} with rank {}",
                        reduces ? "a gradient reduction" : "a collective",
                        role(whom).script.rank)};
  }

  std::string describe_circle(int a) const {
    std::vector<int> path;
    while (a >= 0 && !has_ended(a) && std::find(path.begin(), path.end(), a) == path.end()) {
      path.push_back(a);
      a = awaited(a).first;
    }
    const bool closes = a >= 0 && !has_ended(a);
    if (closes) {
      path.erase(path.begin(), std::find(path.begin(), path.end(), a));
    }
    std::string text;
    for (const int stands : path) {
      text += fmt::format("{}rank {} waits at step {} for {}",
                          text.empty() ? "" : "; ",
                          role(stands).script.rank,
                          actors_[at(stands)].next,
                          awaited(stands).second);
    }
    return text + (closes   ? ", where the circle closes"
                   : a >= 0 ? ", which has ended"
                            : ", which has no program");
  }

  const Cast& cast_;
  Network network_;
  std::vector<double> phi_;  // by actor
  std::vector<Actor> actors_;
  std::vector<MeetingState> meetings_;
  std::vector<std::vector<int>> waiting_for_message_;  // actors
  std::vector<std::size_t> step_of_send_;              // by message
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  Picoseconds now_{0};
  ReplayResult result_;
};

}  // namespace

ReplayResult replay(const Cast& cast, InstructionPrices& prices) {
  return Replay(cast, prices).run();
}

}  // namespace shardwise::internal
