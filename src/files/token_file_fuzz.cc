// Any bytes are an InputError or tokens within the bound. The first byte chooses the kind of file.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string_view>

#include "core/errors.h"
#include "files/megatron_index.h"
#include "files/temporary_folder.h"
#include "files/token_source.h"

namespace {

using shardwise::TemporaryFolder;

void read_ends(const shardwise::TokenSource& source) {
  std::array<std::int64_t, 8> tokens{};
  const auto count = std::min(source.size(), static_cast<std::int64_t>(tokens.size()));
  const auto part = std::span(tokens).first(static_cast<std::size_t>(count));
  source.read(0, part);
  source.read(source.size() - count, part);
  for (const std::int64_t token : part) {
    SHARDWISE_CHECK(token >= 0 && token < source.vocabulary_bound(), "token out of its bound");
  }
}

// `text` as an index, with a data file of the size that it asks for, if that is small.
void read_megatron(const TemporaryFolder& folder, std::string_view text) {
  const auto index_path = folder.write("x.idx", text);
  const shardwise::MegatronIndex index = shardwise::read_megatron_index(index_path);
  const auto data_path = folder.write("x.bin", "");
  constexpr std::int64_t kLargest = 1 << 20;
  std::filesystem::resize_file(data_path,
                               static_cast<std::uintmax_t>(std::min(index.num_tokens, kLargest) *
                                                           element_size(index.type).count));
  read_ends(*shardwise::open_token_source(index_path));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  if (size == 0) {
    return 0;
  }
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  try {
    switch (data[0]) {
      case 'm':
        read_megatron(folder, text);
        break;
      case 'n':
        read_ends(*shardwise::open_token_source(folder.write("nano.bin", text)));
        break;
      default:
        read_ends(*shardwise::open_token_source(folder.write("text.txt", text)));
    }
  } catch (const shardwise::InputError&) {
  }
  return 0;
}
