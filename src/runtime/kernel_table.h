// The kernels of kernel_*.cc, one for each kind; for kernel.cc, others ask kernel_of.
#pragma once

#include "runtime/kernel.h"

namespace shardwise {

const Kernel& embedding_kernel();
const Kernel& position_embedding_kernel();
const Kernel& linear_kernel();
const Kernel& attention_kernel();
const Kernel& layer_norm_kernel();
const Kernel& rms_norm_kernel();
const Kernel& rotary_kernel();
const Kernel& activation_kernel();
const Kernel& gated_activation_kernel();
const Kernel& add_kernel();
const Kernel& cross_entropy_kernel();
const Kernel& router_kernel();
const Kernel& experts_kernel();

}  // namespace shardwise
