// The simulated disk's platter: what syncs bring to it, and what a power cut leaves of the rest.
#include <algorithm>
#include <iterator>

#include "tests/support/simulated_node.h"

namespace datacloud {
namespace {

constexpr size_t kSectorBytes = 512;

uint64_t below(std::mt19937_64& random, uint64_t bound) { return random() % bound; }

// Any length between the old and the new, each sector new or as it was.
Bytes tear(const Bytes& before, const Bytes& after, std::mt19937_64& random) {
  const size_t shortest = std::min(before.size(), after.size());
  const size_t size = shortest + below(random, after.size() - shortest + 1);
  Bytes out(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(shortest));
  out.resize(size, 0);
  for (size_t start = 0; start < size; start += kSectorBytes) {
    if (below(random, 2) == 0) continue;
    const size_t end = std::min(start + kSectorBytes, size);
    std::copy(after.begin() + static_cast<std::ptrdiff_t>(start),
              after.begin() + static_cast<std::ptrdiff_t>(end),
              out.begin() + static_cast<std::ptrdiff_t>(start));
  }
  return out;
}

}  // namespace

void SimulatedFiles::flush_change(std::list<NameChange>::iterator change) {
  if (change->target) {
    change->directory->durable_entries[change->name] = change->target;
  } else {
    change->directory->durable_entries.erase(change->name);
  }
  for (auto& other : pending_) {
    if (other.after == change->id) other.after = 0;
  }
  pending_.erase(change);
}

void SimulatedFiles::flush_names(const NodePtr& directory) {
  for (auto it = pending_.begin(); it != pending_.end();) {
    const auto change = it++;
    if (change->directory != directory) continue;
    if (change->after != 0) {  // the other half of a rename goes with it
      const auto first = std::find_if(pending_.begin(), pending_.end(),
                                      [&](const auto& c) { return c.id == change->after; });
      if (first != pending_.end()) flush_change(first);
    }
    flush_change(change);
  }
}

void SimulatedFiles::power_cut(uint64_t seed) {
  std::lock_guard lock(mutex_);
  std::mt19937_64 random(seed);
  lose_names(random);
  lose_contents(random);
  ++generation_;
  locked_.clear();
  fail_at_.reset();
  power_off_ = false;
}

void SimulatedFiles::lose_names(std::mt19937_64& random) {
  // Some cuts keep nearly everything, some nearly nothing: independent coins alone would make long
  // all-or-nothing outcomes too rare.
  static constexpr uint64_t kKeepPercent[] = {0, 10, 50, 90, 100};
  const uint64_t keep = kKeepPercent[below(random, std::size(kKeepPercent))];
  while (!pending_.empty()) {
    const auto change = pending_.begin();
    // `after` still set: the first half was lost.
    if (change->after == 0 && below(random, 100) < keep) {
      flush_change(change);
    } else {
      pending_.erase(change);
    }
  }
}

void SimulatedFiles::lose_contents(std::mt19937_64& random) {
  std::set<const Node*> seen;
  std::vector<NodePtr> left{root_};
  while (!left.empty()) {
    const NodePtr node = left.back();
    left.pop_back();
    if (!seen.insert(node.get()).second) continue;
    if (node->directory) {
      node->entries = node->durable_entries;
      for (const auto& entry : node->entries) left.push_back(entry.second);
      continue;
    }
    if (node->unsynced) {
      const uint64_t fate = below(random, 4);
      if (fate == 0) {
        node->durable = node->contents;
      } else if (fate > 1) {
        node->durable =
            tear(node->truncated && fate == 2 ? Bytes() : node->durable, node->contents, random);
      }
    }
    node->contents = node->durable;
    node->unsynced = node->truncated = false;
  }
}

}  // namespace datacloud
