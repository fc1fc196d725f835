// Columns to sites, and what a cloud survives. Pure; see placement.h.
//
// Column c of a stripe lives at site (c + rotation) mod s. Every rotation therefore cuts the
// columns into the same parts, {c : c = j mod s}, only handed to other sites: what holds for
// losing any f sites under one rotation holds under all of them. With a home site the same is true
// of the columns that are not there and the other s - 1 sites.
#include "common/stripe/placement.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

namespace datacloud {
namespace {

ColumnSet all_columns(const ErasureCode& code) {
  return code.n() >= 32 ? ~ColumnSet{0} : (ColumnSet{1} << code.n()) - 1;
}

bool decodes_without(const ErasureCode& code, ColumnSet lost) {
  const ColumnSet all = all_columns(code);
  return code.minimum_to_decode(all, all & ~lost, {}).has_value();
}

// The parts of the columns that share a site, largest first.
std::vector<ColumnSet> columns_by_site(const ErasureCode& code, int site_count,
                                       bool has_home = false) {
  const int at_home = has_home && site_count > 1 ? home_columns(code) : 0;
  const int others = at_home > 0 ? site_count - 1 : site_count;
  std::vector<ColumnSet> parts(std::min(others, code.n() - at_home), 0);
  for (int c = at_home; c < code.n(); ++c) parts[(c - at_home) % others] |= ColumnSet{1} << c;
  if (at_home > 0) parts.push_back((ColumnSet{1} << at_home) - 1);
  std::stable_sort(parts.begin(), parts.end(),
                   [](ColumnSet a, ColumnSet b) { return std::popcount(a) > std::popcount(b); });
  return parts;
}

// Where column c is at home, as an index into the sites.
std::vector<size_t> homes_of_columns(const ErasureCode& code,
                                     const std::vector<PlacementSite>& sites, uint64_t rotation,
                                     SiteId home) {
  std::vector<size_t> others, homes;
  size_t home_index = sites.size();
  for (size_t i = 0; i < sites.size(); ++i) {
    if (home != 0 && sites[i].id == home) {
      home_index = i;
    } else {
      others.push_back(i);
    }
  }
  const int at_home = home_index < sites.size() && !others.empty() ? home_columns(code) : 0;
  if (at_home == 0 && home_index < sites.size()) {
    others.insert(others.begin() + static_cast<long>(home_index), home_index);
  }
  for (int c = 0; c < code.n(); ++c) {
    homes.push_back(
        c < at_home ? home_index
                    : others[(rotation % others.size() + static_cast<size_t>(c)) % others.size()]);
  }
  return homes;
}

// Does `holds` answer true for every union of `count` of the parts with `lost`?
bool for_every_choice(const std::vector<ColumnSet>& parts, size_t first, int count, ColumnSet lost,
                      const std::function<bool(ColumnSet)>& holds) {
  if (count == 0) return holds(lost);
  for (size_t i = first; i + count <= parts.size(); ++i)
    if (!for_every_choice(parts, i + 1, count - 1, lost | parts[i], holds)) return false;
  return true;
}

// Any `sites` sites and then any `shards` more columns may be lost.
bool survives(const ErasureCode& code, const std::vector<ColumnSet>& by_site, int sites,
              int shards) {
  if (sites > static_cast<int>(by_site.size()) || shards > code.n()) return false;
  if (code.guaranteed_tolerance() == code.m()) {
    // MDS: only the number of lost columns counts, so the fullest sites (first) are the worst.
    int lost = shards;
    for (int i = 0; i < sites; ++i) lost += std::popcount(by_site[i]);
    return lost <= code.m();
  }
  std::vector<ColumnSet> single(code.n());
  for (int c = 0; c < code.n(); ++c) single[c] = ColumnSet{1} << c;
  return for_every_choice(by_site, 0, sites, 0, [&](ColumnSet lost_sites) {
    return for_every_choice(single, 0, shards, lost_sites,
                            [&](ColumnSet lost) { return decodes_without(code, lost); });
  });
}

// The largest value for which `holds` is true, counting up from 0; 0 when it never is.
int largest(const std::function<bool(int)>& holds) {
  int value = 0;
  while (holds(value + 1)) ++value;
  return value;
}

std::string counted(int count, const char* word) {
  return std::to_string(count) + " " + word + (count == 1 ? "" : "s");
}

std::string describe(const Tolerance& t, int site_count) {
  if (t.shards == 0) return "nothing may be lost";
  const std::string any_shards = "any " + counted(t.shards, "shard") + " per stripe";
  if (t.sites == 0)
    return site_count == 1
               ? "not the only site, but " + any_shards
               : "no whole site of " + std::to_string(site_count) + ", but " + any_shards;
  std::string text = "any " + std::to_string(t.sites) + " of " + counted(site_count, "site");
  if (t.shards_after_sites > 0)
    text += " and " + counted(t.shards_after_sites, "more shard") + " per stripe";
  if (t.sites_with_one_shard > 0 && t.sites_with_one_shard < t.sites)
    text += ", or " + counted(t.sites_with_one_shard, "site") + " and 1 shard per stripe";
  else
    text += ", or " + any_shards;
  return text;
}

// A live site for a column that cannot go home: fewest columns of this stripe; among those one
// that is not short of space (less than half of what the roomiest has); among those by `turn`, so
// that over many stripes all live sites stand in equally often.
size_t pick_stand_in(const std::vector<PlacementSite>& sites, const std::vector<int>& columns_held,
                     uint64_t turn) {
  uint64_t roomiest = 0;
  for (const auto& site : sites)
    if (site.live) roomiest = std::max(roomiest, site.free_bytes);
  auto rank = [&](size_t i) {
    const bool is_short = sites[i].free_bytes != 0 && sites[i].free_bytes < roomiest / 2;
    return std::pair(columns_held[i], is_short);
  };
  std::vector<size_t> best;
  for (size_t i = 0; i < sites.size(); ++i) {
    if (!sites[i].live) continue;
    if (!best.empty() && rank(i) < rank(best[0])) best.clear();
    if (best.empty() || rank(i) == rank(best[0])) best.push_back(i);
  }
  return best[turn % best.size()];
}

}  // namespace

result<Placement> place_columns(const ErasureCode& code, const std::vector<PlacementSite>& sites,
                                uint64_t rotation, ColumnSet stored, SiteId home_site) {
  if (std::none_of(sites.begin(), sites.end(), [](const auto& s) { return s.live; }))
    return failure(Errc::unavailable, "none of the " + std::to_string(sites.size()) +
                                          " sites of the cloud is reachable; bring one back");
  const size_t n = code.n(), count = sites.size();
  const auto home = homes_of_columns(code, sites, rotation, home_site);
  std::vector<size_t> place = home;
  std::vector<int> columns_held(count, 0);
  for (size_t c = 0; c < n; ++c) {
    if (sites[home[c]].live && contains(stored, static_cast<int>(c))) ++columns_held[home[c]];
  }
  for (size_t c = 0; c < n; ++c) {
    if (sites[home[c]].live) continue;
    // Which column is displaced depends on rotation mod count, the turn must not.
    place[c] = pick_stand_in(sites, columns_held, rotation / count);
    if (contains(stored, static_cast<int>(c))) ++columns_held[place[c]];
  }

  Placement placement;
  std::vector<ColumnSet> held(count, 0);
  for (size_t c = 0; c < n; ++c) {
    placement.site_of_column.push_back(sites[place[c]].id);
    placement.home_of_column.push_back(sites[home[c]].id);
    if (contains(stored, static_cast<int>(c))) held[place[c]] |= ColumnSet{1} << c;
  }
  placement.survives_one_site = std::all_of(
      held.begin(), held.end(), [&](ColumnSet lost) { return decodes_without(code, lost); });
  return placement;
}

int home_columns(const ErasureCode& code) {
  return largest([&](int count) {
    return count <= code.k() && decodes_without(code, (ColumnSet{1} << count) - 1);
  });
}

Tolerance compute_tolerance(const ErasureCode& code, int site_count, bool has_home_site) {
  Tolerance t;
  if (site_count < 1) {
    t.text = "nothing may be lost: there is no site";
    return t;
  }
  const auto by_site = columns_by_site(code, site_count, has_home_site);
  t.sites = largest([&](int f) { return survives(code, by_site, f, 0); });
  t.shards_after_sites = largest([&](int s) { return survives(code, by_site, t.sites, s); });
  t.shards = largest([&](int s) { return survives(code, by_site, 0, s); });
  t.sites_with_one_shard = largest([&](int f) { return survives(code, by_site, f, 1); });
  t.text = describe(t, site_count);
  return t;
}

int sites_for_one_loss(const ErasureCode& code) {
  for (int sites = 1; sites <= code.n(); ++sites)
    if (survives(code, columns_by_site(code, sites), 1, 0)) return sites;
  return std::numeric_limits<int>::max();
}

}  // namespace datacloud
