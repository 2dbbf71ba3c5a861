// The index (.idx) that Megatron-LM writes beside its token file (.bin).
//
// Little-endian, without padding: "MMIDIDX\0\0", version 1 (uint64), type code (uint8), number n of
// sequences (uint64), number d of document ends (uint64), lengths (int32[n], in tokens), pointers
// (int64[n], bytes into .bin), document ends (int64[d], in sequences, from 0 to n), and with
// multimodal data modes (int8[n]). Source: NVIDIA/Megatron-LM,
// megatron/core/datasets/indexed_dataset.py.
#pragma once

#include <cstdint>
#include <filesystem>

#include "files/safetensors_layout.h"

namespace shardwise {

struct MegatronIndex {
  TensorType type = TensorType::kInt32;
  std::int64_t num_tokens = 0;
  std::int64_t num_sequences = 0;
  std::int64_t num_documents = 0;
};

// Reads and checks an index. Its sequences must follow each other in the .bin file without gaps,
// as Megatron-LM writes them; so the file is one run of tokens and the index need not be kept.
// Throws InputError for anything else, and for types that are no tokens (float32, float64).
// Reads the file once in pieces: O(1) memory whatever it claims.
MegatronIndex read_megatron_index(const std::filesystem::path& path);

}  // namespace shardwise
