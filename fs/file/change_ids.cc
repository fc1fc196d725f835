// Change ids of commits.
#include "fs/file/change_ids.h"

#include <algorithm>
#include <mutex>
#include <random>

namespace datacloud {
namespace {

// Failed units whose change ids are remembered apart; later ones share the last.
constexpr size_t kUnsureMax = 64;

uint64_t random_change_id() {
  static std::mutex mutex;
  static std::mt19937_64 random = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device()};
    return std::mt19937_64(seed);
  }();
  std::lock_guard lock(mutex);
  for (;;)
    if (const uint64_t id = random()) return id;
}

}  // namespace

uint64_t next_change_id(const Inode& inode) {
  return inode.unsure.size() < kUnsureMax ? random_change_id() : inode.unsure.back();
}

std::vector<uint64_t> states_to_follow(const Inode& inode) {
  for (auto unit = inode.units.rbegin(); unit != inode.units.rend(); ++unit)
    if (!unit->second.dropped) return {unit->second.change_id};
  std::vector<uint64_t> states = inode.unsure;
  states.push_back(inode.stored.change_id);
  return states;
}

void note_unsure(Inode& inode, uint64_t change_id) {
  auto& unsure = inode.unsure;
  if (std::find(unsure.begin(), unsure.end(), change_id) == unsure.end())
    unsure.push_back(change_id);
}

}  // namespace datacloud
