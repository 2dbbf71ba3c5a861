// Pictures are inline SVG; colours are variables of a small palette (Okabe and Ito's, which colour-
// blind readers can tell apart) with a dark variant.
#include "report/html_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "report/plan_report.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result.push_back(c);
    }
  }
  return result;
}

constexpr const char* kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shardwise report</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<style>
:root{--ink:#1b1f24;--paper:#fff;--line:#d0d7de;--soft:#57606a;--f:#0072b2;--b:#d55e00;--w:#009e73;
--c:#cc79a7;--p:#e69f00;--r:#56b4e9;--m:#7f8c99}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--line:#30363d;--soft:#8b949e}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;
max-width:70rem;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;margin:.5rem 0}td,th{padding:.2rem .7rem;text-align:right;
border-bottom:1px solid var(--line)}td:first-child,th:first-child{text-align:left}
pre{overflow-x:auto;font-size:12px}svg{width:100%;height:auto;display:block}
svg text{fill:var(--ink);font:11px system-ui,sans-serif}.soft{color:var(--soft)}
.f{fill:var(--f)}.b{fill:var(--b)}.w{fill:var(--w)}.c{fill:var(--c)}.p{fill:var(--p)}.r{fill:var(--r)}
.m{fill:var(--m)}.box{fill:none;stroke:var(--line)}.key span{display:inline-block;margin-right:1rem}
.key i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
@media print{body{margin:0;max-width:none}h2{break-after:avoid}svg,table{break-inside:avoid}}
</style></head><body>
)";

constexpr const char* kKey =
    "<p class=key><span><i style=\"background:var(--f)\"></i>forward</span>"
    "<span><i style=\"background:var(--b)\"></i>backward</span>"
    "<span><i style=\"background:var(--w)\"></i>gradients of weights</span>"
    "<span><i style=\"background:var(--c)\"></i>collective</span>"
    "<span><i style=\"background:var(--r)\"></i>reduction beside</span>"
    "<span><i style=\"background:var(--p)\"></i>message</span>"
    "<span><i style=\"background:var(--m)\"></i>update and the rest</span></p>\n";

char class_of(const Slice& slice) {
  if (slice.stream == Stream::kPointToPoint) {
    return 'p';
  }
  if (slice.stream == Stream::kCollectives) {
    return slice.is_reduction ? 'r' : 'c';
  }
  if (slice.kind != InstructionKind::kCompute) {
    return 'm';
  }
  switch (slice.direction) {
    case Direction::kForward:
      return slice.again ? 'b' : 'f';
    case Direction::kBackwardWeight:
      return 'w';
    default:
      return 'b';
  }
}

// Neighbouring slices of one colour become one bar, so that a page stays small.
struct Bar {
  char kind = 'm';
  int microbatch = -1;
  double begin = 0;
  double end = 0;
};

std::vector<Bar> bars_of(const Simulation& simulation, int rank, Stream stream, bool reductions) {
  const double closest = 0.0004 * static_cast<double>(simulation.makespan.count);
  std::vector<Bar> bars;
  for (const Slice& slice : simulation.slices) {
    if (slice.rank != rank || slice.stream != stream || slice.is_reduction != reductions) {
      continue;
    }
    const auto begin = static_cast<double>(slice.begin.count);
    const auto end = static_cast<double>(slice.end.count);
    const char kind = class_of(slice);
    if (!bars.empty() && bars.back().kind == kind && bars.back().microbatch == slice.microbatch &&
        begin - bars.back().end <= closest) {
      bars.back().end = end;
    } else {
      bars.push_back({kind, slice.microbatch, begin, end});
    }
  }
  return bars;
}

class PageWriter {
 public:
  explicit PageWriter(const std::vector<ReportedPlan>& plans) : plans_(plans) {}

  std::string write() {
    page_ = kHead;
    add("<h1>Shardwise: {}</h1>\n", plans_.size() == 1 ? "a plan" : "plans compared");
    if (plans_.size() > 1) {
      write_comparison();
    }
    for (const ReportedPlan& plan : plans_) {
      write_plan(plan);
    }
    page_ += "</body></html>\n";
    return std::move(page_);
  }

 private:
  template <typename... Arguments>
  void add(fmt::format_string<Arguments...> form, Arguments&&... arguments) {
    fmt::format_to(std::back_inserter(page_), form, std::forward<Arguments>(arguments)...);
  }

  static std::string time(Picoseconds value) { return format_seconds(to_seconds(value)); }

  static Bytes fullest(const Simulation& simulation) {
    Bytes most{0};
    for (const RankActivity& rank : simulation.ranks) {
      most = std::max(most, rank.peak_memory);
    }
    return most;
  }

  void write_comparison() {
    page_ += "<table><tr><th></th>";
    for (const ReportedPlan& plan : plans_) {
      add("<th>{}</th>", escaped(plan.name));
    }
    page_ += "</tr>\n";
    const auto row = [this](const char* name, auto cell) {
      add("<tr><td>{}</td>", name);
      for (const ReportedPlan& plan : plans_) {
        add("<td>{}</td>", escaped(cell(plan)));
      }
      page_ += "</tr>\n";
    };
    row("step, replayed", [](const ReportedPlan& p) { return time(p.simulation.step_time()); });
    row("step, by formula", [](const ReportedPlan& p) {
      return p.evaluation ? time(p.evaluation->step_time) : std::string("-");
    });
    row("tokens per second", [](const ReportedPlan& p) {
      return fmt::format("{:.0f}", tokens_per_second(p.plan, p.simulation.step_time()));
    });
    row("bubbles", [](const ReportedPlan& p) {
      return fmt::format("{:.1f} %", 100 * p.simulation.bubble_rate());
    });
    row("fullest device",
        [](const ReportedPlan& p) { return format_bytes(fullest(p.simulation)); });
    row("stages", [](const ReportedPlan& p) { return std::to_string(p.plan.num_stages()); });
    row("micro-batches",
        [](const ReportedPlan& p) { return std::to_string(p.plan.num_microbatches); });
    row("schedule", [](const ReportedPlan& p) { return to_string(p.plan.schedule); });
    const double change = plans_[1].simulation.step_time() / plans_[0].simulation.step_time() - 1;
    add("</table>\n<p>{} takes {:+.1f} % of the time of {}.</p>\n",
        escaped(plans_[1].name),
        100 * change,
        escaped(plans_[0].name));
  }

  void write_plan(const ReportedPlan& plan) {
    add("<h2>{}</h2>\n<p>{} on {}: <b>{}</b> per step, {:.0f} tokens/s, bubbles {:.1f} %.",
        escaped(plan.name),
        escaped(plan.model),
        escaped(plan.cluster.name),
        time(plan.simulation.step_time()),
        tokens_per_second(plan.plan, plan.simulation.step_time()),
        100 * plan.simulation.bubble_rate());
    if (plan.evaluation) {
      add(" The formula says {} ({:+.1f} % by the replay).",
          time(plan.evaluation->step_time),
          100 * (plan.simulation.step_time() / plan.evaluation->step_time - 1));
    }
    add("</p>\n<p class=soft>{} Times {}.</p>\n", escaped(plan.proof), escaped(plan.provenance));
    write_strip(plan);
    add("<h3>Layers</h3>\n<pre>{}</pre>\n", escaped(plan_strip(plan.plan, plan.graph)));
    write_timeline(plan);
    write_streams(plan);
    write_memory(plan);
    if (plan.evaluation) {
      add("<h3>Time by term (ms)</h3>\n<pre>{}</pre>\n",
          escaped(time_table(plan.plan, *plan.evaluation)));
    }
  }

  // Which stage runs which layers.
  void write_strip(const ReportedPlan& plan) {
    const auto layers = static_cast<double>(plan.graph.layers.size());
    page_ += "<svg viewBox=\"0 0 1000 34\" role=img aria-label=\"layers by stage\">\n";
    constexpr const char* kColours = "fbwcpr";
    for (int k = 0; k < plan.plan.num_stages() * plan.plan.num_chunks(); ++k) {
      const VirtualStage place = virtual_stage(plan.plan, k);
      const ChunkPlan& chunk = plan.plan.stages[at(place.stage)].chunks[at(place.chunk)];
      const double x = 1000 * chunk.first_layer / layers;
      const double width = 1000 * static_cast<double>(chunk.layers.size()) / layers;
      add("<rect class={} x={:.1f} y=0 width={:.1f} height=18 opacity=.8><title>stage {}, chunk "
          "{}: "
          "layers {} to {}</title></rect><text x={:.1f} y=31>{}</text>\n",
          kColours[place.stage % 6],
          x,
          std::max(width - 1, 0.5),
          place.stage,
          place.chunk,
          chunk.first_layer,
          chunk.end_layer() - 1,
          x,
          width > 14 ? fmt::format("stage {}", place.stage) : "");
    }
    page_ += "</svg>\n";
  }

  // The rank of each stage that ends last.
  static std::map<int, const RankActivity*> rank_of_stage(const Simulation& simulation) {
    std::map<int, const RankActivity*> ranks;
    for (const RankActivity& rank : simulation.ranks) {
      const RankActivity*& shown = ranks[rank.stage];
      shown = shown == nullptr || rank.end > shown->end ? &rank : shown;
    }
    return ranks;
  }

  void write_timeline(const ReportedPlan& plan) {
    const auto ranks = rank_of_stage(plan.simulation);
    constexpr int kRow = 38;
    add("<h3>Timeline</h3>\n{}<svg viewBox=\"0 0 1000 {}\" role=img aria-label=timeline>\n",
        kKey,
        kRow * static_cast<int>(ranks.size()) + 16);
    const double scale =
        940.0 / static_cast<double>(std::max<std::int64_t>(plan.simulation.makespan.count, 1));
    int y = 0;
    for (const auto& [stage, rank] : ranks) {
      add("<text x=0 y={}>stage {}</text>\n", y + 15, stage);
      write_bars(bars_of(plan.simulation, rank->rank, Stream::kCompute, false), y, 16, scale);
      write_bars(
          bars_of(plan.simulation, rank->rank, Stream::kCollectives, false), y + 17, 5, scale);
      write_bars(
          bars_of(plan.simulation, rank->rank, Stream::kCollectives, true), y + 23, 5, scale);
      write_bars(
          bars_of(plan.simulation, rank->rank, Stream::kPointToPoint, false), y + 29, 5, scale);
      y += kRow;
    }
    add("<text x=60 y={0}>0</text><text x=1000 y={0} text-anchor=end>{1}</text></svg>\n",
        y + 12,
        time(plan.simulation.makespan));
  }

  void write_bars(const std::vector<Bar>& bars, int y, int height, double scale) {
    for (const Bar& bar : bars) {
      add("<rect class={} x={:.2f} y={} width={:.2f} height={}>",
          bar.kind,
          60 + scale * bar.begin,
          y,
          std::max(scale * (bar.end - bar.begin), 0.1),
          height);
      if (bar.microbatch >= 0) {
        add("<title>micro-batch {}</title>", bar.microbatch);
      }
      page_ += "</rect>\n";
    }
  }

  void write_streams(const ReportedPlan& plan) {
    page_ +=
        "<h3>Streams</h3>\n<table><tr><th>stage</th><th>compute</th><th>collectives</th><th>of "
        "them "
        "beside</th><th>messages sent</th><th>ends at</th></tr>\n";
    for (const auto& [stage, rank] : rank_of_stage(plan.simulation)) {
      add("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
          stage,
          time(rank->compute),
          time(rank->collectives),
          time(rank->reductions),
          time(rank->point_to_point),
          time(rank->end));
    }
    page_ += "</table>\n";
  }

  void write_memory(const ReportedPlan& plan) {
    page_ +=
        "<h3>Memory of the fullest "
        "device</h3>\n<table><tr><th>stage</th><th>state</th><th>peak</th>"
        "<th>limit</th><th style=\"width:20rem\"></th></tr>\n";
    std::map<int, const RankActivity*> fullest;
    for (const RankActivity& rank : plan.simulation.ranks) {
      const RankActivity*& shown = fullest[rank.stage];
      shown = shown == nullptr || rank.peak_memory > shown->peak_memory ? &rank : shown;
    }
    for (const auto& [stage, rank] : fullest) {
      const DeviceType& device = plan.cluster.types[at(plan.cluster.type_of(rank->rank))];
      const Bytes limit = device.memory - device.reserve;
      const auto width = [&](Bytes bytes) { return std::min(100.0, 100 * (bytes / limit)); };
      add("<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><svg viewBox=\"0 0 100 6\">"
          "<rect class=f width={:.1f} height=6 /><rect class=p x={:.1f} width={:.1f} height=6 />"
          "<rect class=box width=100 height=6 /></svg></td></tr>\n",
          stage,
          format_bytes(rank->state),
          format_bytes(rank->peak_memory),
          format_bytes(limit),
          width(rank->state),
          width(rank->state),
          std::max(width(rank->peak_memory) - width(rank->state), 0.0));
    }
    page_ += "</table>\n";
  }

  const std::vector<ReportedPlan>& plans_;
  std::string page_;
};

}  // namespace

std::string html_report(const std::vector<ReportedPlan>& plans) {
  return PageWriter(plans).write();
}

}  // namespace shardwise
