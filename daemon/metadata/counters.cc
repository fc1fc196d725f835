// Counters in meta records.
#include "daemon/metadata/counters.h"

#include "daemon/metadata/record_keys.h"

namespace datacloud {

result<uint64_t> read_counter(const Transaction& txn, std::string_view name, uint64_t first) {
  TRY(const auto value, txn.get(key::meta(name)));
  if (!value) return first;
  if (value->size() != 8) {
    return failure(Errc::corrupt, "the counter " + std::string(name) +
                                      " is damaged; restore the daemon's state directory");
  }
  return key::u64_at(*value, 0);
}

void put_counter(Transaction& txn, std::string_view name, uint64_t value) {
  std::string bytes(8, '\0');
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (56 - 8 * i));
  txn.put(key::meta(name), std::move(bytes));
}

}  // namespace datacloud
