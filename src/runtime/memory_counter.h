// Counts the bytes of live tensors of this process, and their peak.
#pragma once

#include "core/units.h"

namespace shardwise {

// Puts a counting allocator in front of ATen's CPU allocator, once for each process, before the
// first tensor that shall count. Tensors larger than a page are aligned to 64 bytes.
void install_memory_counter();

// Bytes that tensors hold now, and the most they held since the last reset_memory_peak(). All
// threads together. 0 without install_memory_counter().
Bytes live_tensor_bytes();
Bytes peak_tensor_bytes();
void reset_memory_peak();

// Resident memory of this process now, and its peak (VmRSS, VmHWM of /proc/self/status).
Bytes resident_bytes();
Bytes peak_resident_bytes();
// Part of it that mirrors files: code of libraries, which is loaded when first used (RssFile).
Bytes resident_file_bytes();
// Lets the peak begin anew from what is resident now; without the right to, it stays.
void reset_resident_peak();

}  // namespace shardwise
