// Placement: balanced, rotating, with stand-ins; the stated tolerance is what really decodes.
#include "common/stripe/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <climits>
#include <map>

#include "common/codes/linear_code.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

std::shared_ptr<const ErasureCode> code_of(const std::string& profile) {
  return make_erasure_code(profile).value();
}

std::vector<PlacementSite> sites_of(int count, ColumnSet away = 0) {
  std::vector<PlacementSite> sites;
  for (int i = 0; i < count; ++i)
    sites.push_back({static_cast<SiteId>(10 + i), !contains(away, i), 0});
  return sites;
}

std::map<SiteId, int> columns_per_site(const std::vector<SiteId>& sites) {
  std::map<SiteId, int> counts;
  for (SiteId site : sites) ++counts[site];
  return counts;
}

bool decodes_without(const ErasureCode& code, ColumnSet lost) {
  const ColumnSet all = (ColumnSet{1} << code.n()) - 1;
  return code.minimum_to_decode(all, all & ~lost, {}).has_value();
}

TEST(Placement, IsBalancedForAnyNumberOfSites) {
  Seeded random;
  for (const char* profile : {"rs-3-2", "rs-2-1", "rs-10-4", "rs-1-0"})
    for (int count = 1; count <= 16; ++count) {
      const auto code = code_of(profile);
      const auto placement =
          place_columns(*code, sites_of(count), random.number(0, UINT64_MAX)).value();
      ASSERT_EQ(placement.site_of_column.size(), static_cast<size_t>(code->n()));
      EXPECT_EQ(placement.site_of_column, placement.home_of_column);
      const auto counts = columns_per_site(placement.site_of_column);
      EXPECT_EQ(static_cast<int>(counts.size()), std::min(count, code->n()));
      for (const auto& [site, columns] : counts) {
        EXPECT_GE(columns, code->n() / count);
        EXPECT_LE(columns, (code->n() + count - 1) / count);
      }
    }
}

TEST(Placement, FiveColumnsOnThreeLiveSitesAreTwoTwoOne) {
  const auto code = code_of("rs-3-2");
  for (uint64_t rotation = 0; rotation < 50; ++rotation) {
    const auto placement = place_columns(*code, sites_of(5, 0b01001), rotation).value();
    std::vector<int> counts;
    for (const auto& [site, columns] : columns_per_site(placement.site_of_column)) {
      EXPECT_TRUE(site != 10 && site != 13) << "nothing goes to a site that is away";
      counts.push_back(columns);
    }
    std::sort(counts.begin(), counts.end());
    EXPECT_EQ(counts, (std::vector<int>{1, 2, 2}));
    EXPECT_TRUE(placement.survives_one_site);
    const auto homes = place_columns(*code, sites_of(5), rotation).value().site_of_column;
    EXPECT_EQ(placement.home_of_column, homes) << "homes do not depend on who is away";
    for (size_t c = 0; c < homes.size(); ++c)
      if (homes[c] != 10 && homes[c] != 13) {
        EXPECT_EQ(placement.site_of_column[c], homes[c]);
      }
  }
}

TEST(Placement, RotationBalancesColumnsOverManyStripes) {
  const auto code = code_of("rs-3-2");
  // (site, column) -> stripes, with one of five sites away and with all there.
  for (ColumnSet away : {0b00000u, 0b00100u}) {
    std::map<SiteId, int> shards, first_columns;
    for (uint64_t rotation = 0; rotation < 4000; ++rotation) {
      const auto placement = place_columns(*code, sites_of(5, away), rotation).value();
      for (SiteId site : placement.site_of_column) ++shards[site];
      ++first_columns[placement.site_of_column[0]];
    }
    const int live = 5 - std::popcount(away);
    ASSERT_EQ(static_cast<int>(shards.size()), live);
    for (const auto& [site, count] : shards) EXPECT_NEAR(count, 5 * 4000 / live, 10);
    for (const auto& [site, count] : first_columns) EXPECT_NEAR(count, 4000 / live, 10);
  }
}

TEST(Placement, StandInsAvoidSitesShortOfSpace) {
  const auto code = code_of("rs-3-2");
  auto sites = sites_of(5, 0b00001);
  for (auto& site : sites) site.free_bytes = 1000;
  sites[2].free_bytes = 10;
  for (uint64_t rotation = 0; rotation < 100; ++rotation) {
    const auto counts =
        columns_per_site(place_columns(*code, sites, rotation).value().site_of_column);
    EXPECT_EQ(counts.at(12), 1) << "no stand-in where space is short";
  }
}

TEST(Placement, SurvivesOneSiteIsWhatDecodes) {
  for (const char* profile : {"rs-3-2", "rs-2-1", "rs-4-2", "rs-6-3", "rs-3-0"})
    for (int count = 1; count <= 6; ++count)
      for (ColumnSet away = 0; away + 1 < (ColumnSet{1} << count); ++away) {
        const auto code = code_of(profile);
        const auto placement = place_columns(*code, sites_of(count, away), 7).value();
        bool survives = true;
        for (int i = 0; i < count; ++i) {
          ColumnSet lost = 0;
          for (int c = 0; c < code->n(); ++c)
            if (placement.site_of_column[c] == static_cast<SiteId>(10 + i)) lost |= 1u << c;
          survives = survives && decodes_without(*code, lost);
        }
        EXPECT_EQ(placement.survives_one_site, survives);
        if (away == 0) {
          EXPECT_EQ(survives, count >= sites_for_one_loss(*code)) << profile << count;
        }
      }
}

TEST(Placement, WithoutLiveSitesIsUnavailable) {
  const auto code = code_of("rs-3-2");
  EXPECT_TRUE(place_columns(*code, sites_of(2, 0b11), 0).error().is(Errc::unavailable));
  EXPECT_TRUE(place_columns(*code, {}, 0).error().is(Errc::unavailable));
}

TEST(SitesForOneLoss, IsTheSmallestSpread) {
  EXPECT_EQ(sites_for_one_loss(*code_of("rs-3-2")), 3);
  EXPECT_EQ(sites_for_one_loss(*code_of("rs-2-1")), 3);
  EXPECT_EQ(sites_for_one_loss(*code_of("rs-10-4")), 4);
  EXPECT_EQ(sites_for_one_loss(*code_of("rs-1-1")), 2);
  EXPECT_EQ(sites_for_one_loss(*code_of("rs-3-0")), INT_MAX);
}

// Every loss the tolerance promises decodes under every rotation; one more somewhere does not.
TEST(Tolerance, EqualsBruteForce) {
  for (const char* profile : {"rs-3-2", "rs-2-1", "rs-4-2", "rs-6-3", "rs-3-0", "rs-1-2", "rs-4-3"})
    for (int count = 1; count <= 9; ++count) {
      const auto code = code_of(profile);
      auto survives = [&](int sites, int shards) {
        for (uint64_t rotation = 0; rotation < static_cast<uint64_t>(count); ++rotation) {
          const auto placement = place_columns(*code, sites_of(count), rotation).value();
          for (ColumnSet down = 0; down < (ColumnSet{1} << count); ++down) {
            if (std::popcount(down) != sites) continue;
            ColumnSet by_sites = 0;
            for (int c = 0; c < code->n(); ++c)
              if (contains(down, static_cast<int>(placement.site_of_column[c] - 10)))
                by_sites |= ColumnSet{1} << c;
            for (ColumnSet extra = 0; extra < (ColumnSet{1} << code->n()); ++extra)
              if (std::popcount(extra) == shards && !decodes_without(*code, by_sites | extra))
                return false;
          }
        }
        return sites <= count && shards <= code->n();
      };
      auto largest = [](auto holds) {
        int value = 0;
        while (holds(value + 1)) ++value;
        return value;
      };
      const Tolerance t = compute_tolerance(*code, count);
      EXPECT_EQ(t.sites, largest([&](int f) { return survives(f, 0); })) << profile << " " << count;
      EXPECT_EQ(t.shards, largest([&](int s) { return survives(0, s); }));
      EXPECT_EQ(t.sites_with_one_shard, largest([&](int f) { return survives(f, 1); }));
      EXPECT_EQ(t.shards_after_sites, largest([&](int s) { return survives(t.sites, s); }));
    }
}

TEST(Tolerance, ReadsWell) {
  auto text = [](const char* profile, int sites) {
    return compute_tolerance(*code_of(profile), sites).text;
  };
  EXPECT_EQ(text("rs-3-2", 5), "any 2 of 5 sites, or 1 site and 1 shard per stripe");
  EXPECT_EQ(text("rs-3-2", 3), "any 1 of 3 sites, or any 2 shards per stripe");
  EXPECT_EQ(text("rs-3-2", 1), "not the only site, but any 2 shards per stripe");
  EXPECT_EQ(text("rs-3-2", 2), "no whole site of 2, but any 2 shards per stripe");
  EXPECT_EQ(text("rs-4-3", 4),
            "any 1 of 4 sites and 1 more shard per stripe, or any 3 shards per stripe");
  EXPECT_EQ(text("rs-10-4", 14), "any 4 of 14 sites, or 3 sites and 1 shard per stripe");
  EXPECT_EQ(text("rs-3-0", 5), "nothing may be lost");
  EXPECT_EQ(text("rs-3-2", 0), "nothing may be lost: there is no site");
}

// A code that is not MDS: two data columns, each with a mirror. Some pairs of losses are fatal.
CodeDefinition mirrors() {
  CodeDefinition code{.name = "mirrors", .k = 2, .m = 2, .guaranteed_tolerance = 1};
  code.generator = GfMatrix(4, 2);
  for (int c = 0; c < 4; ++c) code.generator.at(c, c % 2) = 1;
  return code;
}

TEST(Tolerance, OfACodeThatIsNotMdsIsEnumerated) {
  const LinearCode code(mirrors());
  // On two sites column and mirror (c and c + 2) share a site; on three, 0 and 3 do.
  EXPECT_EQ(compute_tolerance(code, 2).sites, 0);
  const Tolerance three = compute_tolerance(code, 3);
  EXPECT_EQ(three.sites, 1);
  EXPECT_EQ(three.shards, 1);
  EXPECT_EQ(three.shards_after_sites, 0);
}

}  // namespace
}  // namespace datacloud
