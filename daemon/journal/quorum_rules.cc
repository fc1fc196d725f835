// The arithmetic of quorums (quorum_rules.h).
#include "daemon/journal/quorum_rules.h"

#include <algorithm>

namespace datacloud::journal {

QuorumRules quorum_rules(int sites, int losses) {
  QuorumRules rules;
  rules.sites = sites;
  rules.losses = std::min(losses, sites - 1);
  rules.commit = std::max(sites / 2 + 1, rules.losses + 1);
  rules.adopt = sites - rules.commit + 1;
  rules.writable = sites - rules.commit;
  rules.witnesses = std::max(0, 2 * rules.losses + 1 - sites);
  return rules;
}

int site_losses(int sites, int columns, int tolerance) {
  const int at_one_site = (columns + sites - 1) / sites;
  return std::min(tolerance / at_one_site, sites - 1);
}

}  // namespace datacloud::journal
