#include "core/version.h"

namespace shardwise {

std::string_view version() { return SHARDWISE_VERSION; }

}  // namespace shardwise
