// The totals record: seven big-endian u64, in the order of the struct.
#include "daemon/metadata/totals.h"

#include <array>
#include <string>

#include "daemon/metadata/record_keys.h"

namespace datacloud {
namespace {

constexpr std::array kFields = {
    &Totals::inodes,  &Totals::blocks_logical_bytes, &Totals::live_bytes,    &Totals::stored_bytes,
    &Totals::stripes, &Totals::stripes_weak,         &Totals::shards_missing};

}  // namespace

std::string encode_totals(const Totals& totals) {
  std::string value;
  for (const auto field : kFields) {
    for (int shift = 56; shift >= 0; shift -= 8) {
      value.push_back(static_cast<char>(totals.*field >> shift));
    }
  }
  return value;
}

bool decode_totals(std::string_view value, Totals& totals) {
  if (value.size() != kFields.size() * 8) return false;
  for (size_t i = 0; i < kFields.size(); ++i) totals.*kFields[i] = key::u64_at(value, i * 8);
  return true;
}

Totals difference(const Totals& a, const Totals& b) {
  Totals out;
  for (const auto field : kFields) out.*field = a.*field - b.*field;
  return out;
}

Totals sum(const Totals& a, const Totals& b) {
  Totals out;
  for (const auto field : kFields) out.*field = a.*field + b.*field;
  return out;
}

result<Totals> read_totals(const Transaction& txn) {
  TRY(const auto value, txn.get(key::meta("totals")));
  Totals totals;
  if (value && !decode_totals(*value, totals)) {
    return failure(Errc::corrupt, "metadata record Atotals has " + std::to_string(value->size()) +
                                      " bytes instead of " + std::to_string(kFields.size() * 8));
  }
  return totals;
}

void write_totals(Transaction& txn, const Totals& totals) {
  txn.put(key::meta("totals"), encode_totals(totals));
}

}  // namespace datacloud
