#include "files/read_file.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "core/errors.h"
#include "files/input_file.h"

namespace shardwise {

std::string read_file(const std::filesystem::path& path, Bytes limit) {
  const InputFile file(path);
  std::string text;
  std::vector<char> chunk(std::size_t{1} << 16);
  while (const std::size_t count = file.read_some(std::as_writable_bytes(std::span(chunk)))) {
    text.append(chunk.data(), count);
    if (std::cmp_greater(text.size(), limit.count)) {
      throw InputError(path.string(),
                       fmt::format("expected at most {}, found a larger file; is it the right one?",
                                   format_bytes(limit)));
    }
  }
  return text;
}

}  // namespace shardwise
