// The constants of modelled times: meaning, unit, source. docs/cost_model.md tells how those marked
// "fit" were found: physical bounds, then least error over published runs of many sources.
#pragma once

#include <span>
#include <string_view>

namespace shardwise {

struct ModelConstants {
  // --- arithmetic -------------------------------------------------------------------------------
  // Share of the best measured matrix product (DeviceType::matrix_share) that whole runs keep up:
  // clocks drop under sustained load. With FP8 units (Hopper and later), where the power limit
  // binds, lower. Fit.
  double sustained = 0.944;
  double sustained_hopper = 0.778;
  // Length of a sum at which half the rate is reached: the pipeline of loads fills and drains. Fit.
  double sum_start = 346.0;
  // Gradient products over forward ones: one operand lies across the sum. Fit.
  double gradient_product = 1.06;
  // Rate of products with a dimension that is no multiple of 64, the width of the fast tiles. Not
  // fitted: orientation of this project's first model.
  double odd_dimension = 0.8;
  // Flash attention's products over other products. Not fitted: FlashAttention reaches 30-50 % of
  // an A100's data sheet forward, 25-35 % backward (Dao, FlashAttention-2, section 1): 0.45 / (0.87
  // 0.95) and 0.3 / 0.45.
  double flash = 0.53;
  double flash_backward = 0.67;
  // The same kernels on Hopper and later, whose older instructions reach 63 % of its peak (Luo et
  // al., Benchmarking the Hopper architecture, 2024): 0.45 0.63 / (0.80 0.82) / flash. Not fitted.
  double flash_hopper = 0.8;
  // Kernels written for the device itself, rate over other products (Shah et al., FlashAttention-3:
  // 75 % of an H100's data sheet forward). Fit.
  double flash_tuned = 1.0;
  // Share of the time of flash attention's exponentials that shows; the rest hides behind products
  // (Shah et al., section 3.1). Not fitted.
  double softmax = 0.6;
  // Bytes moved for each score without flash: mask, softmax, dropout as separate passes. Fit.
  double score_forward = 8.84;
  double score_backward = 10.9;
  // Share of its peak that a product in FP8 or FP4 reaches over the one in BF16 (Bekman's best
  // measured: 0.88 H100, 0.98 B200, 0.99 GB200), over `sustained_hopper`'s drop, which draws less
  // there. Fit.
  double small_format = 1.24;
  // Share of products that an FP4 recipe keeps in BF16 (NVIDIA, "Pretraining LLMs with NVFP4",
  // 2025: about 15 % of the linear layers).
  double kept_half = 0.15;
  // Bytes moved for each element brought to a small format: largest value, copy, transposed copy.
  double quantise_bytes = 10.9;
  // --- memory -----------------------------------------------------------------------------------
  double stream = 0.85;      // share of the data sheet's memory bandwidth that streams reach
  double elementwise = 1.0;  // traffic over the least one, fused kernels. Fit.
  // The same where every step is a kernel of its own: under automatic casts a norm and an addition
  // also write and read fp32, (2 12 + 2 6 + 16 + 12) / (8 + 12 + 16 + 12) bytes. Not fitted.
  double eager = 1.33;
  // --- communication ----------------------------------------------------------------------------
  // Of the links' bandwidth through a node's switch, rings: 229 of 300 GB/s on eight A100 (vTrain's
  // table), 682 of 900 on B200, 366 of 450 on H200 (Bekman). Fit within these.
  double node_share = 0.82;
  // Of direct links: three rings through eight V100 reach 134 of 150 GB/s (vTrain's all-reduce
  // tables). Not fitted.
  double direct_share = 0.9;
  // Of the links' bandwidth where the switch adds: 838 and 473 GB/s of bus bandwidth on eight B200
  // and H200, 2 7 / 8 times what each sends (Bekman, Machine Learning Engineering). Not fitted.
  double in_switch = 0.55;
  // Of the cards', rings: 382 of 400 GB/s on four nodes of B200 (Bekman). Fit below that.
  double network_share = 0.95;
  // Of a card's where one message or one pair uses it: pairs of B200, H200 and GH200 reach 37, 32
  // and 23 GB/s of 50, 50 and 25 from 256 MiB on (logs of nccl-tests in the documentation of
  // google/dranet and of CSCS); NCCL takes 0.7 (graph/tuning.cc). Not fitted.
  double message_share = 0.76;
  double exposed = 0.05;    // share of overlapped communication that shows: it takes units. Fit.
  double all_to_all = 1.0;  // bandwidth of token exchange over that of rings. Fit.
  // s, a step of a ring inside a node, simple protocol over NVLink (NCCL, graph/tuning.cc).
  double ring_step = 3.4e-6;
  // Share of an op's backward that hides its own reduction where nothing else does: overlapped
  // kernels slow each other by 1.1 to 1.3 (Miao et al., VLDB'23, Galvatron).
  double overlap = 0.83;
  // --- host -------------------------------------------------------------------------------------
  double step = 0.0411;  // s, fixed for a step: data, logging, norms. Fit.
  // s, least for a kernel: the host's launch. A layer of about 45 kernels takes at least 0.35 ms.
  double launch = 8e-6;
  double per_doubling =
      0.00423;  // growth for each doubling of nodes: waiting for the slowest. Fit.
  // s, least for a layer with experts whose loads are known only at run time: launches and waits
  // for the counts, mid 2025; 1/year by which it falls as software is fused and captured. Fit.
  double expert_layer = 0.00675;
  double maturing = 0.0634;
  // --- experts ----------------------------------------------------------------------------------
  // For each routed element, permuted and brought back, forward and backward: read and written in
  // two bytes each time. Counted, not fitted.
  double permute_bytes = 16.0;
  double grouped = 0.789;  // rate of grouped products over single ones. Fit.
};

// A constant that published runs may move, and its physical bounds.
struct FittedConstant {
  std::string_view name;
  double ModelConstants::*member;
  double low;
  double high;
};
std::span<const FittedConstant> fitted_constants();

}  // namespace shardwise
