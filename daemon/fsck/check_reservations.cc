// What all files have reserved, by tree and code, against what the inodes' pass has added up.
#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>

#include "common/base/features.h"
#include "daemon/fsck/record_passes.h"
#include "daemon/records/reservations.h"

namespace datacloud {

result<void> check_reservations(RecordPasses& p) {
  const auto tell = [&](uint32_t tree, const std::string& code, std::optional<std::string> was,
                        uint64_t counted, uint64_t right) {
    std::optional<std::string> becomes;
    if (right != 0) becomes = reservations::sum_value(right);
    p.add({.kind = "totals",
           .text = fmt::format("{} bytes are reserved under {} in tree {}, {} are counted", right,
                               code, tree, counted),
           .action = "the sum is set",
           .records = {{key::reserved_sum(tree, code), std::move(was), std::move(becomes)}}});
  };
  auto left = p.reserved;
  auto at = p.view.scan_all('h');
  for (; at.valid(); at.next()) {
    TRY(p.count());
    p.note_use(std::string(describe(Feature::reservations).name),
               [] { return std::string("a sum of reserved space"); });
    uint32_t tree = 0;
    std::string code;
    if (!reservations::parse_sum_key(at.key(), tree, code)) {
      p.add({.kind = "totals",
             .text = "a sum of reserved space has a key that is none",
             .action = "it is put into quarantine",
             .records = {erased(at)}});
      continue;
    }
    const auto counted = left.find({tree, code});
    const uint64_t right = counted == left.end() ? 0 : counted->second;
    if (counted != left.end()) left.erase(counted);
    const bool whole = at.value().size() == 8;
    const uint64_t stored = whole ? key::u64_at(at.value(), 0) : 0;
    if (!whole || stored != right || right == 0)
      tell(tree, code, std::string(at.value()), stored, right);
  }
  TRY(at.status());
  for (const auto& [of, bytes] : left) {
    if (bytes != 0) tell(of.first, of.second, std::nullopt, 0, bytes);
  }
  return success();
}

}  // namespace datacloud
