// The acknowledgement rule of a stripe.
#include "common/stripe/write_quorum.h"

#include <algorithm>
#include <set>

#include "common/stripe/placement.h"

namespace datacloud {
namespace {

ColumnSet known_without(const ShardsHeld& held, SiteId lost) {
  ColumnSet known = held.empty;
  for (size_t c = 0; c < held.site_of_column.size(); ++c) {
    const SiteId site = held.site_of_column[c];
    if (site != 0 && site != lost) known |= ColumnSet{1} << c;
  }
  return known;
}

std::set<SiteId> sites_of(const ShardsHeld& held) {
  std::set<SiteId> sites(held.site_of_column.begin(), held.site_of_column.end());
  sites.erase(0);
  return sites;
}

}  // namespace

bool decodes(const ErasureCode& code, ColumnSet available) {
  const ColumnSet data = (ColumnSet{1} << code.k()) - 1;
  return code.minimum_to_decode(data, available, {}).has_value();
}

bool survives_any_site(const ErasureCode& code, const ShardsHeld& held) {
  const auto sites = sites_of(held);
  return std::all_of(sites.begin(), sites.end(),
                     [&](SiteId lost) { return decodes(code, known_without(held, lost)); });
}

int columns_durable(const ShardsHeld& held) { return __builtin_popcount(known_without(held, 0)); }

size_t sites_holding(const ShardsHeld& held) { return sites_of(held).size(); }

bool has_write_quorum(const ErasureCode& code, const ShardsHeld& held, const QuorumRule& rule) {
  if (columns_durable(held) < std::min(code.k() + 1, code.n())) return false;
  if (!decodes(code, known_without(held, 0))) return false;  // k + 1 are enough for MDS codes only
  const auto stored = static_cast<uint32_t>(code.n() - __builtin_popcount(held.empty));
  if (sites_holding(held) < std::min(rule.sites_min, stored)) return false;
  if (code.m() == 0) return true;
  if (rule.sites_live < static_cast<size_t>(sites_for_one_loss(code))) return true;
  return survives_any_site(code, held);
}

}  // namespace datacloud
