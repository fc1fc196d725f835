// Sets of sites are tried from the smallest on; stripes that lie alike are judged once.
#include "tools/locate_risk.h"

#include <algorithm>
#include <bit>
#include <map>
#include <set>
#include <string>

#include "common/codes/erasure_code.h"

namespace datacloud {
namespace {

constexpr int kSitesMax = 20;  // of one stripe: 2^20 sets are tried

// How a stripe lies: its code, and the site of each readable column (0: none, ~0: needs none).
struct Layout {
  std::string code;
  std::vector<uint32_t> sites;
  bool operator<(const Layout& other) const {
    return std::tie(code, sites) < std::tie(other.code, other.sites);
  }
};
constexpr uint32_t kNowhere = 0, kNeedsNone = ~uint32_t{0};

Layout layout_of(const pb::Stripe& stripe, const std::set<std::pair<uint64_t, uint32_t>>& damaged) {
  Layout layout{stripe.code(), {}};
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const auto& shard = stripe.shards(c);
    const bool bad = shard.state() == pb::SHARD_MISSING ||
                     damaged.contains({stripe.id(), static_cast<uint32_t>(c)});
    layout.sites.push_back(shard.state() == pb::SHARD_EMPTY ? kNeedsNone
                           : bad                            ? kNowhere
                                                            : shard.site());
  }
  return layout;
}

ColumnSet readable(const Layout& layout, const std::vector<uint32_t>& lost) {
  ColumnSet columns = 0;
  for (size_t c = 0; c < layout.sites.size(); ++c) {
    const uint32_t site = layout.sites[c];
    const bool gone = site == kNowhere || std::find(lost.begin(), lost.end(), site) != lost.end();
    if (!gone) columns |= ColumnSet{1} << c;
  }
  return columns;
}

bool decodes(const ErasureCode& code, ColumnSet available) {
  const ColumnSet data = (ColumnSet{1} << code.k()) - 1;
  return code.minimum_to_decode(data, available, {}).has_value();
}

// The fewest sites without which the stripe does not decode.
std::optional<std::vector<uint32_t>> fatal_sites(const ErasureCode& code, const Layout& layout) {
  std::set<uint32_t> all(layout.sites.begin(), layout.sites.end());
  all.erase(kNowhere);
  all.erase(kNeedsNone);
  const std::vector<uint32_t> sites(all.begin(), all.end());
  const int count = static_cast<int>(sites.size());
  if (count > kSitesMax) return std::nullopt;
  for (int size = 0; size <= count; ++size) {
    for (uint32_t set = 0; set < uint32_t{1} << count; ++set) {
      if (std::popcount(set) != size) continue;
      std::vector<uint32_t> lost;
      for (int i = 0; i < count; ++i) {
        if (set >> i & 1) lost.push_back(sites[static_cast<size_t>(i)]);
      }
      if (!decodes(code, readable(layout, lost))) return lost;
    }
  }
  return std::nullopt;
}

}  // namespace

LossRisk loss_risk(const pb::LocateReply& reply) {
  LossRisk risk;
  std::set<std::pair<uint64_t, uint32_t>> damaged;
  for (const auto& d : reply.damaged()) {
    for (const auto& stripe : reply.stripes()) {
      if (stripe.id() != d.stripe() || d.column() >= static_cast<uint32_t>(stripe.shards_size())) {
        continue;
      }
      if (stripe.shards(static_cast<int>(d.column())).instance() == d.instance()) {
        damaged.insert({d.stripe(), d.column()});
      }
    }
  }
  std::map<Layout, uint64_t> layouts;  // with one stripe of each
  for (const auto& stripe : reply.stripes()) {
    if (stripe.members_size() > 0) continue;  // an XOR row: nothing is lost with it
    layouts.emplace(layout_of(stripe, damaged), stripe.id());
  }
  bool first = true;
  for (const auto& [layout, stripe] : layouts) {
    const auto code = make_erasure_code(layout.code);
    if (!code || code.value()->n() != static_cast<int>(layout.sites.size())) return LossRisk{};
    const int bad =
        static_cast<int>(std::count(layout.sites.begin(), layout.sites.end(), kNowhere));
    const int spare = std::max(0, code.value()->guaranteed_tolerance() - bad);
    risk.shards_spare = first ? spare : std::min(risk.shards_spare, spare);
    first = false;
    const auto fatal = fatal_sites(*code.value(), layout);
    if (!fatal || (risk.sites && *risk.sites <= static_cast<int>(fatal->size()))) continue;
    risk.sites = static_cast<int>(fatal->size());
    risk.example = *fatal;
    risk.stripe = stripe;
  }
  return risk;
}

}  // namespace datacloud
