// Choosing a log (adoption.h).
#include "daemon/journal/adoption.h"

#include <algorithm>
#include <string>

namespace datacloud::journal {
namespace {

std::optional<LogPosition> position_at(const SiteLog& log, uint64_t sequence) {
  if (sequence == log.base.sequence) return log.base;
  if (sequence < log.base.sequence) return std::nullopt;
  const uint64_t index = sequence - log.base.sequence - 1;
  if (index >= log.entries.size()) return std::nullopt;
  return log.entries[index].position();
}

}  // namespace

result<Adoption> choose_log(const Epoch& claimed, const std::vector<SiteLog>& logs,
                            const std::vector<Acknowledged>& acknowledged, size_t needed) {
  Adoption adoption;
  for (const auto& log : logs) {
    if (log.end().epoch > claimed) {
      return failure(Errc::stale,
                     "epoch " + epoch_text(log.end().epoch) + " has claimed the journal meanwhile");
    }
  }
  for (size_t i = 0; i < logs.size(); ++i) {
    if (ends_before(logs[adoption.source].end(), logs[i].end())) adoption.source = i;
    const bool behind = std::any_of(acknowledged.begin(), acknowledged.end(), [&](const auto& a) {
      return a.site == logs[i].site && ends_before(logs[i].end(), a.position);
    });
    if (behind) adoption.behind.push_back(logs[i].site);
  }
  const size_t good = logs.size() - adoption.behind.size();
  if (good >= needed && good > 0) return adoption;
  return failure(Errc::unavailable,
                 std::to_string(good) + " sites of the journal can be trusted, " +
                     std::to_string(needed) + " are needed" +
                     (adoption.behind.empty() ? ""
                                              : "; others have forgotten what they had, as a "
                                                "restored backup has"));
}

std::optional<LogPosition> common_position(const SiteLog& a, const SiteLog& b) {
  for (uint64_t s = std::min(a.end().sequence, b.end().sequence) + 1; s > 0; --s) {
    const auto in_a = position_at(a, s - 1);
    const auto in_b = position_at(b, s - 1);
    if (!in_a || !in_b) return std::nullopt;
    if (*in_a == *in_b) return in_a;
  }
  return std::nullopt;
}

}  // namespace datacloud::journal
