// Counters in 'A' (meta) records: 8 bytes, big-endian; absent means the given first value.
#pragma once

#include <string_view>

#include "daemon/metadata/metadata_store.h"

namespace datacloud {

result<uint64_t> read_counter(const Transaction&, std::string_view name, uint64_t first);
void put_counter(Transaction&, std::string_view name, uint64_t value);

}  // namespace datacloud
