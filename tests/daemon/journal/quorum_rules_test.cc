// The arithmetic of quorums, for every code and number of sites, and the tables of docs/journal.md.
#include "daemon/journal/quorum_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "common/codes/code_matrices.h"

namespace datacloud::journal {
namespace {

std::vector<CodeDefinition> codes() {
  std::vector<CodeDefinition> out;
  for (int k = 1; k <= 12; ++k) {
    for (int m = 1; m <= 4; ++m) out.push_back(reed_solomon_code(k, m));
  }
  for (int k : {4, 6, 8}) out.push_back(basic_code(k));
  out.push_back(msr_code(5, 3));
  out.push_back(msr_code(8, 4));
  return out;
}

// By enumeration of all sets of sites, not by the formula again.
TEST(QuorumRules, HoldForEveryCodeAndNumberOfSites) {
  for (const auto& code : codes()) {
    for (int sites = 1; sites <= 10; ++sites) {
      const int columns = code.k + code.m;
      const int f = site_losses(sites, columns, code.guaranteed_tolerance);
      std::vector<int> shards(static_cast<size_t>(sites));
      for (int c = 0; c < columns; ++c) ++shards[static_cast<size_t>(c % sites)];
      const QuorumRules rules = quorum_rules(sites, f);
      SCOPED_TRACE(code.name + " on " + std::to_string(sites) + " sites");
      for (unsigned lost = 0; lost < 1u << sites; ++lost) {
        const int count = std::popcount(lost);
        int shards_lost = 0;
        for (int s = 0; s < sites; ++s) {
          if (lost >> s & 1) shards_lost += shards[static_cast<size_t>(s)];
        }
        if (count <= f) {
          EXPECT_LE(shards_lost, code.guaranteed_tolerance) << "the data survive";
          EXPECT_LT(count, rules.commit) << "a copy of each committed entry is left";
          EXPECT_GE(sites - count, rules.adopt) << "and can be adopted";
        }
        EXPECT_EQ(sites - count >= rules.commit, count <= rules.writable);
      }
      for (unsigned commit = 0; commit < 1u << sites; ++commit) {
        if (std::popcount(commit) != rules.commit) continue;
        for (unsigned adopt = 0; adopt < 1u << sites; ++adopt) {
          if (std::popcount(adopt) != rules.adopt && std::popcount(adopt) != rules.commit) continue;
          EXPECT_NE(commit & adopt, 0u) << "every claim meets every commit, and commits each other";
        }
      }
      const QuorumRules helped = quorum_rules(sites + rules.witnesses, f);
      EXPECT_GE(helped.writable, helped.losses);
      if (rules.witnesses > 0) {
        EXPECT_LT(quorum_rules(sites + rules.witnesses - 1, f).writable, f) << "no fewer do";
      }
    }
  }
}

std::vector<std::string> cells(const std::string& line) {
  std::vector<std::string> out;
  std::stringstream in(line);
  std::string cell;
  std::getline(in, cell, '|');
  while (std::getline(in, cell, '|')) {
    const size_t from = cell.find_first_not_of(' ');
    out.push_back(
        from == std::string::npos ? "" : cell.substr(from, cell.find_last_not_of(' ') - from + 1));
  }
  return out;
}

TEST(QuorumRules, AreTheDocumentedTables) {
  std::ifstream file(std::string(DATACLOUD_SOURCE_DIR) + "/docs/journal.md");
  std::map<std::string, CodeDefinition> by_name;
  for (auto& code : codes()) by_name[code.name] = code;
  std::string line;
  int table = 0, rows = 0;
  while (std::getline(file, line)) {
    if (!line.starts_with("|")) table = 0;
    if (line.starts_with("| f \\ S")) table = 1;
    if (line.starts_with("| code | 1")) table = 2;
    const auto row = cells(line);
    if (table == 0 || row.size() < 10 || line.starts_with("| f") || line.starts_with("| code") ||
        row[0].starts_with("---"))
      continue;
    ++rows;
    for (int sites = 1; sites <= 9; ++sites) {
      const std::string& cell = row[static_cast<size_t>(sites)];
      if (table == 2) {
        const auto& code = by_name.at(row[0]);
        EXPECT_EQ(cell,
                  std::to_string(site_losses(sites, code.k + code.m, code.guaranteed_tolerance)));
        continue;
      }
      const int f = std::stoi(row[0]);
      if (cell == "-") {
        EXPECT_GE(f, sites);
        continue;
      }
      const QuorumRules rules = quorum_rules(sites, f);
      std::string expected = std::to_string(rules.commit) + " " + std::to_string(rules.adopt) +
                             " " + std::to_string(rules.writable);
      if (rules.witnesses > 0) expected += " +" + std::to_string(rules.witnesses);
      EXPECT_EQ(cell, expected) << "f " << f << ", S " << sites;
    }
  }
  EXPECT_EQ(rows, 15);
}

}  // namespace
}  // namespace datacloud::journal
