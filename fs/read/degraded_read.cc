// Sets of columns to decode from, and which columns a decoded truth disproves.
#include "fs/read/degraded_read.h"

#include <algorithm>
#include <bit>

namespace datacloud {

std::vector<ColumnSet> sets_joined_by(ColumnSet joined, int column, int k, size_t count_max) {
  std::vector<ColumnSet> out;
  const ColumnSet newcomer = ColumnSet{1} << column;
  joined &= ~newcomer;
  // Walks the (k-1)-subsets of `joined` by their positions among its members.
  std::vector<int> members;
  for (int c = 0; c < 32; ++c)
    if (contains(joined, c)) members.push_back(c);
  const int need = k - 1;
  if (static_cast<int>(members.size()) < need) return out;
  std::vector<bool> taken(members.size(), false);
  std::fill(taken.begin(), taken.begin() + need, true);
  do {
    ColumnSet set = newcomer;
    for (size_t i = 0; i < members.size(); ++i)
      if (taken[i]) set |= ColumnSet{1} << members[i];
    out.push_back(set);
  } while (out.size() < count_max && std::prev_permutation(taken.begin(), taken.end()));
  return out;
}

ColumnSet disproved_columns(const ErasureCode& code, ColumnSet good, ColumnSet present,
                            const std::vector<ByteView>& shards) {
  const ColumnSet wanted = present & ~good;
  if (wanted == 0) return 0;
  size_t length = 0;
  for (int c = 0; c < code.n(); ++c)
    if (contains(good, c)) length = shards[c].size();
  std::vector<Bytes> truth(static_cast<size_t>(std::popcount(wanted)), Bytes(length));
  const std::vector<MutableByteView> out(truth.begin(), truth.end());
  if (!code.decode(wanted, good, shards, out)) return 0;
  ColumnSet wrong = 0;
  size_t i = 0;
  for (int c = 0; c < code.n(); ++c) {
    if (!contains(wanted, c)) continue;
    if (!std::equal(truth[i].begin(), truth[i].end(), shards[c].begin(), shards[c].end()))
      wrong |= ColumnSet{1} << c;
    ++i;
  }
  return wrong;
}

}  // namespace datacloud
