// Which log a claimer adopts, and what each site lacks of it. Pure; docs/journal.md, "Adopt",
// "Trust".
#pragma once

#include <optional>
#include <vector>

#include "common/base/error.h"
#include "daemon/journal/log_entry.h"

namespace datacloud::journal {

// What was read at a site that has promised: consecutive entries, verified by their chain.
struct SiteLog {
  int site = 0;
  LogPosition base;  // before the first entry
  std::vector<LogEntry> entries;
  LogPosition end() const { return entries.empty() ? base : entries.back().position(); }
};

// That a site has acknowledged this, as the others' logs or somebody's memory have it.
struct Acknowledged {
  int site = 0;
  LogPosition position;
};

struct Adoption {
  size_t source = 0;        // index of the log that is adopted
  std::vector<int> behind;  // sites whose log ends before what they have acknowledged
};

// The log whose end has the highest (epoch, sequence). A site that is behind what it acknowledged
// was put back from a backup, or its head lies: its log may be adopted, it is genuine, but it is
// none of the `needed` sites that make sure that nothing committed is missed. unavailable: too few
// are left. stale: a log ends in an epoch after `claimed`, so that somebody else has claimed since.
result<Adoption> choose_log(const Epoch& claimed, const std::vector<SiteLog>&,
                            const std::vector<Acknowledged>&, size_t needed);

// The last position that both logs have; none when a checkpoint must bridge what is between them.
std::optional<LogPosition> common_position(const SiteLog&, const SiteLog&);

}  // namespace datacloud::journal
