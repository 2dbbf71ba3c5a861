// A measured table as JSON: one line a row.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "cost/measured_table.h"
#include "files/json.h"

namespace shardwise {

nlohmann::ordered_json table_to_json(const MeasuredTable& table);
// Exact round trip. Throws InputError with the place for malformed rows and times that are not
// positive.
MeasuredTable table_from_json(const JsonValue& value);

}  // namespace shardwise
