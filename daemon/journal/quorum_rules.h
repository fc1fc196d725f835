// How many journal sites commit and adopt. Pure arithmetic; docs/journal.md, "Quorum".
#pragma once

namespace datacloud::journal {

inline constexpr int kJournalSitesMax = 32;

struct QuorumRules {
  int sites = 0;      // S, that hold the journal
  int losses = 0;     // f, lost sites that the data survive
  int commit = 0;     // q: an entry at so many sites is committed
  int adopt = 0;      // S - q + 1: a claim of so many meets every commit
  int writable = 0;   // lost sites after which commits go on
  int witnesses = 0;  // sites for the journal alone that make writable reach f
  bool operator==(const QuorumRules&) const = default;
};

// 1 <= sites <= kJournalSitesMax, losses >= 0. losses of `sites` or more count as sites - 1:
// nothing survives the loss of all sites.
QuorumRules quorum_rules(int sites, int losses);

// f of a code whose stripes have n columns, any `tolerance` of which may be lost, spread evenly
// over S sites: as many sites as hold no more than that.
int site_losses(int sites, int columns, int tolerance);

}  // namespace datacloud::journal
