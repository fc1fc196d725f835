// The totals record: seven big-endian u64, in the order of the struct.
#include "daemon/totals.h"

#include <array>
#include <string>

#include "daemon/record_keys.h"

namespace datacloud {
namespace {

constexpr std::array kFields = {
    &Totals::inodes,  &Totals::blocks_logical_bytes, &Totals::live_bytes,    &Totals::stored_bytes,
    &Totals::stripes, &Totals::stripes_weak,         &Totals::shards_missing};

}  // namespace

result<Totals> read_totals(const Transaction& txn) {
  TRY(const auto value, txn.get(key::meta("totals")));
  Totals totals;
  if (!value) return totals;
  if (value->size() != kFields.size() * 8) {
    return failure(Errc::corrupt, "metadata record Atotals has " + std::to_string(value->size()) +
                                      " bytes instead of " + std::to_string(kFields.size() * 8));
  }
  for (size_t i = 0; i < kFields.size(); ++i) totals.*kFields[i] = key::u64_at(*value, i * 8);
  return totals;
}

void write_totals(Transaction& txn, const Totals& totals) {
  std::string value;
  for (const auto field : kFields) {
    for (int shift = 56; shift >= 0; shift -= 8) {
      value.push_back(static_cast<char>(totals.*field >> shift));
    }
  }
  txn.put(key::meta("totals"), std::move(value));
}

}  // namespace datacloud
